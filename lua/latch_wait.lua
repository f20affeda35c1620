-- latch_wait: whether the latch is open; if not, be woken when it is.
--
-- KEYS[1]  latch key
-- KEYS[2]  waiters key: "<owner> <channel>" by until when they are alive, ms
-- ARGV[1]  how many there are to count: that of a latch that is not there yet; an error when it is there with another number
-- ARGV[2]  how long the latch lives on, milliseconds
-- ARGV[3..n]  only to wait: owner id, for how long it is alive, ms, channel to wake (a sharded one if there is a '{' in it), and the
--          birth of the latch it knows ('0', '1': of none)
-- Returns  {1, 60000} when it is open; {0, 60000, how many are left} when not, and behind that, to one who waits, {birth, until when he is
--          alive, 0}. Numbers may come as strings
-- Retry    safe: to wait twice is to wait
local latch, waiters, total, ttl, owner, claim, channel, known = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local call = redis.call
local now = call('TIME')
-- include latch_record
if known and known ~= '0' and known ~= '1' and known ~= birth then
  return redis.error_reply('FORGOTTEN the server has lost the latch that was waited for, and what it had counted')
end
if left == 0 then
  call('PEXPIRE', latch, ttl)
  return {1, 60000}
end
local answer = {0, 60000, string.format('%.0f', left)}
if not owner then return answer end
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
call('ZADD', waiters, ms + claim, owner .. ' ' .. channel)
call('ZREMRANGEBYSCORE', waiters, '-inf', ms - 1)
call('PEXPIRE', waiters, 60000)
keep()
answer[4], answer[5], answer[6] = birth, string.format('%.0f', ms + claim), 0
return answer
