-- mutex_acquire: take the lease; when another has it, or others wait, wait in the queue if asked to.
--
-- KEYS[1]  lease key: who holds, with the time to live
-- KEYS[2]  fence key: the last token, 16 digits; '~' before it: look closer
-- KEYS[3]  queue key: those who wait
-- KEYS[4]  readers key
-- ARGV[1]  owner id
-- ARGV[2]  time to live, milliseconds
-- ARGV[3]  t: never wait; w: wait; T, b: the same, and take a free lock past the queue
-- ARGV[4..n]  only to wait: claim in milliseconds, channel to wake (a sharded one if there is a '{' in it), ticket, and
--          until when the place was known to be kept (see lock_wait)
-- Returns  {token, milliseconds left} when granted; {0, milliseconds the holder has left, who it is} when not, and behind that, of
--          one who waits, {ticket, until when, ms, last token}; {-1, 0} when this owner has withdrawn: a late duplicate, which takes
--          nothing. Numbers may come as strings
-- Retry    safe: the same owner gets the same token and what is left; nothing is extended. Not with ticket '0'
local lease, fence, owner, ttl = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local call = redis.call
local value, now, last

if call('SET', lease, owner, 'NX', 'PX', ttl) then
  -- Server time in microseconds, as text: 16 digits until the year 2286, so texts compare as numbers do. The fence outlives the longest
  -- lease (one day) by a day; to write a time to live costs a server more than the rest of a SET, so it is renewed every 1000 seconds.
  now = call('TIME')
  local us = now[2]
  if #us < 6 then us = string.sub('00000', #us) .. us end
  local token = now[1] .. us
  last = call('SET', fence, token, 'KEEPTTL', 'GET')
  if not last or last < token then
    if not last or string.sub(last, 1, 7) ~= string.sub(token, 1, 7) then call('PEXPIRE', fence, '173800000') end
    return {token, ttl}
  end
  call('SET', fence, last, 'PX', '172800000')
else
  value = call('GET', lease)
  if value == owner or value == '~' .. owner or value == '~~' .. owner then
    local token = string.match(call('GET', fence) or '', '%d+')
    if token then return {token, call('PTTL', lease)} end
  elseif not ARGV[4] then
    return {0, call('PTTL', lease), value}
  end
  now = call('TIME')
end

-- The clock has not moved since the last token, or has stepped back, or there are waiters or owners who withdrew ('~' sorts behind all
-- digits), or another holds.
local queue, readers, kind = KEYS[3], KEYS[4], ARGV[3]
-- include lock_queue
if value and string.match(value, '[^~].*') == owner then return {next_token(true), call('PTTL', lease)} end
if not value then
  local _, refused = remembered(last, owner)
  if refused then
    pass_on(false, '~~')
    return {-1, 0}
  end
  local barging = kind == 'b' or kind == 'T'
  if barging or string.byte(last) ~= 126 or not grant(false, '~~') then
    local queued = string.byte(last) == 126 and call('EXISTS', queue) == 1
    if queued then
      for _, entry in ipairs(call('LRANGE', queue, 0, -1)) do
        if string.find(entry, ' ' .. owner .. ' ', 1, true) then call('LREM', queue, 1, entry) end
      end
      call('SET', lease, '~~' .. owner, 'PX', ttl)
    end
    return {next_token(queued), ttl}
  end
  value = call('GET', lease)
  if value == '~~' .. owner then
    return {string.match(call('GET', fence), '%d+'), call('PTTL', lease)}
  end
  if not ARGV[4] then return {0, call('PTTL', lease), value} end
end
-- include lock_wait
return wait(value, owner, ARGV[4], kind, ARGV[5], ARGV[6], ARGV[7])
