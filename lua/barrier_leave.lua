-- barrier_leave: wait at the barrier no longer, and refuse this owner from now on if asked to.
--
-- KEYS[1]  alive key
-- KEYS[2]  order key
-- KEYS[3]  met key
-- ARGV[1]  owner id
-- ARGV[2]  channel
-- ARGV[3]  how long to remember, milliseconds; 0: no late duplicate is possible
-- Returns  his entry in the met key when all had come before this, else 0
-- Retry    safe: who has left has left
local alive, order, met, me, memory = KEYS[1], KEYS[2], KEYS[3], ARGV[1] .. ' ' .. ARGV[2], ARGV[3]
local call = redis.call
call('ZREM', order, me)
call('ZREM', alive, me)
if memory ~= '0' then
  local now = call('TIME')
  call('ZADD', alive, now[1] * 1000 + math.floor(now[2] / 1000) + memory, '- ' .. me)
  if call('PTTL', alive) < tonumber(memory) then call('PEXPIRE', alive, memory) end
end
return call('ZSCORE', met, me) or 0
