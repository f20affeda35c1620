-- fenced_set: write a value, unless somebody with a larger token has written before.
--
-- KEYS[1]  value key
-- KEYS[2]  token key: the largest token seen
-- ARGV[1]  token, 16 digits
-- ARGV[2]  value
-- ARGV[3]  time to live of the value, milliseconds; empty: it stays
-- ARGV[4]  how much longer the token is remembered, milliseconds
-- Returns  {1 when written, the largest token seen}
-- Retry    unsafe: a repetition could undo a later write of the same token
local value, guard, token, ttl = KEYS[1], KEYS[2], ARGV[1], ARGV[3]
local call = redis.call
local seen = call('GET', guard)
if seen and not string.match(seen, '^%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d$') then
  return redis.error_reply('WRONGTYPE the token key holds no token')
end
call('STRLEN', value)
if seen and seen > token then return {0, seen} end
if ttl == '' then
  call('SET', guard, token)
  call('SET', value, ARGV[2])
else
  call('SET', guard, token, 'PX', string.format('%.0f', ttl + ARGV[4]))
  call('SET', value, ARGV[2], 'PX', ttl)
end
return {1, token}
