-- barrier_join: come to the barrier, or stay there; who completes it lets all go on.
--
-- KEYS[1]  barrier key: "<last generation> <parties>"
-- KEYS[2]  alive key: who waits, "<owner> <channel>", by until when he is alive, ms; and "- <owner> <channel>" who is refused until then
-- KEYS[3]  order key: who waits, by when he came
-- KEYS[4]  met key: who was let go on lately, by generation * 65536 + how many came after him
-- ARGV[1]  how many parties there are; an error when others wait for another number
-- ARGV[2]  how long the barrier lives on, milliseconds
-- ARGV[3]  owner id
-- ARGV[4]  for how long it is alive, milliseconds
-- ARGV[5]  channel to wake; a sharded one if there is a '{' in it
-- Returns  {his entry in the met key, 60000} when all have come; {0, 60000, how many wait, 2, until when he is alive, the last entry so
--          far} when not; {-1, 0} when this owner has left: a late duplicate. Numbers may come as strings
-- Retry    safe: who is there does not come again
local barrier, alive, order, met = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local parties, ttl, claim, me = ARGV[1], ARGV[2], ARGV[4], ARGV[3] .. ' ' .. ARGV[5]
local call = redis.call
local entry = call('ZSCORE', met, me)
if entry then return {entry, 60000} end
local now = call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local gone = call('ZSCORE', alive, '- ' .. me)
if gone and tonumber(gone) >= ms then return {-1, 0} end

-- The dead do not count, and owners who were refused are forgotten.
for _, dead in ipairs(call('ZRANGEBYSCORE', alive, '-inf', '(' .. string.format('%.0f', ms))) do
  call('ZREM', alive, dead)
  call('ZREM', order, dead)
end
local record = call('GET', barrier)
local generation, its_parties = string.match(record or '', '^(%d+) (%d+)$')
generation = tonumber(generation or 0)
local last = call('ZRANGE', order, -1, -1, 'WITHSCORES')
if last[1] and its_parties and its_parties ~= parties then
  return redis.error_reply('PARTIES others wait there for ' .. its_parties .. ' parties, and it was asked for with ' .. parties)
end

call('ZADD', alive, ms + claim, me)
call('ZADD', order, 'NX', (last[2] or 0) + 1, me)
local came = {}
if call('ZCARD', order) >= tonumber(parties) then
  for _, waiter in ipairs(call('ZRANGE', order, 0, -1)) do
    if call('ZSCORE', alive, waiter) then came[#came + 1] = waiter else call('ZREM', order, waiter) end
  end
end
local all = #came >= tonumber(parties)
if all then
  generation = generation + 1
  -- Who lost the message finds himself here. Others may have met again meanwhile, if there are more than `parties`, or some were replaced.
  call('ZREMRANGEBYSCORE', met, '-inf', (generation - 16) * 65536)
  for i, waiter in ipairs(came) do
    entry = string.format('%.0f', generation * 65536 + #came - i)
    call('ZADD', met, entry, waiter)
    call('ZREM', alive, waiter)
    local owner, channel = string.match(waiter, '^(%S+) (.+)$')
    if waiter ~= me then
      call(string.find(channel, '{', 1, true) and 'SPUBLISH' or 'PUBLISH', channel, owner .. ' ' .. entry .. ' 60000')
    end
  end
  call('DEL', order)
  entry = call('ZSCORE', met, me)
end
call('SET', barrier, string.format('%.0f %s', generation, parties), 'PX', ttl)
for _, key in ipairs({alive, order, met}) do
  if call('PTTL', key) < tonumber(ttl) then call('PEXPIRE', key, ttl) end
end
if all then return {entry, 60000} end
return {0, 60000, string.format('%d', call('ZCARD', order)), '2', string.format('%.0f', ms + claim), string.format('%.0f', generation * 65536 + 65535)}
