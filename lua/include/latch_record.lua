-- latch_record: a latch as it is, or as it is to be. Included by the scripts that make one.
--
-- Needs the locals call, latch, waiters, total, ttl and now = call('TIME'). Ends the script with an error when the latch has another total.
local record = call('GET', latch)
local left, its_total, birth = string.match(record or '', '^(%d+) (%d+) (%d+)$')
if not left then
  left, its_total, birth = total, total, now[1] .. string.sub('00000', #now[2]) .. now[2]
end
if its_total ~= total then
  return redis.error_reply('TOTAL it is there with a count of ' .. its_total .. ', and was asked for with ' .. total)
end
left = tonumber(left)
local function keep()
  local now_so = string.format('%.0f %s %s', left, total, birth)
  if now_so ~= record then call('SET', latch, now_so, 'PX', ttl) else call('PEXPIRE', latch, ttl) end
end
