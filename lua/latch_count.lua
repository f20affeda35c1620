-- latch_count: count down, not below zero, and wake all who wait when that opens the latch.
--
-- KEYS[1]  latch key: "<left> <total> <birth, us>"
-- KEYS[2]  waiters key
-- KEYS[3]  operations key: which have been counted
-- ARGV[1]  how many there are to count: that of a latch that is not there yet; an error when it is there with another number
-- ARGV[2]  how long the latch lives on, milliseconds
-- ARGV[3]  by how many
-- ARGV[4]  operation id
-- ARGV[5]  how long to remember that, milliseconds
-- Returns  how many are left
-- Retry    safe: an operation counts once
local latch, waiters, counted, total, ttl, amount, operation = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local call = redis.call
local now = call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
-- include latch_record
local counts = left > 0 and not call('ZSCORE', counted, operation)
local sleepers = call('ZRANGEBYSCORE', waiters, ms, '+inf')
if counts then
  call('ZADD', counted, ms + ARGV[5], operation)
  call('ZREMRANGEBYSCORE', counted, '-inf', ms)
  if call('PTTL', counted) < tonumber(ARGV[5]) then call('PEXPIRE', counted, ARGV[5]) end
  left = math.max(left - amount, 0)
end
keep()
if left == 0 then
  for _, waiter in ipairs(sleepers) do
    local owner, channel = string.match(waiter, '^(%S+) (.+)$')
    call(string.find(channel, '{', 1, true) and 'SPUBLISH' or 'PUBLISH', channel, owner .. ' 1 60000')
  end
  call('DEL', waiters)
end
return string.format('%.0f', left)
