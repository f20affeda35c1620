-- election_observe: who leads, and to be woken when that changes, if asked to.
--
-- KEYS[1]  lease key
-- KEYS[2]  term key
-- KEYS[3]  observers key
-- ARGV[1..n]  only to be woken: observer id, channel (a sharded one if there is a '{' in it), for how long, milliseconds
-- Returns  {milliseconds until the lease ends unless renewed, -2 without a lease}, and behind that, when there is a leader who has said
--          so, {term, owner, revision, value}
-- Retry    safe: a repetition asks for the same again
local call = redis.call
local holder = call('GET', KEYS[1])
local left = call('PTTL', KEYS[1])
local term, owner, revision, value = unpack(call('HMGET', KEYS[2], 'term', 'owner', 'revision', 'value'))
if ARGV[1] then
  local now = call('TIME')
  local ms = now[1] * 1000 + math.floor(now[2] / 1000)
  call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ms)
  call('ZADD', KEYS[3], string.format('%.0f', ms + ARGV[3]), ARGV[1] .. ' ' .. ARGV[2])
  call('PEXPIRE', KEYS[3], '60000')
end
-- What an earlier leader has left behind speaks of nobody.
if holder and owner and string.match(holder, '[^~].*') == owner then return {left, term, owner, revision, value} end
return {left}
