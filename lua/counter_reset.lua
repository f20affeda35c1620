-- counter_reset: forget a counter.
--
-- KEYS[1]  counter key
-- KEYS[2..n]  only with an operation id: recent and older answers, as in include/once.lua
-- ARGV[1..n]  only with an operation id: the id, the fingerprint of the operation, and how long to keep the answer, milliseconds
-- Returns  the value before as a string, or nil where there was none
-- Retry    unsafe: it would forget what others added since, but for one with an operation id, which gets the first one's answer
local key, recent, older, id, fingerprint, window = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3]
local call = redis.call
-- include once
if id then
  local answer, refusal = answered(recent, older, id, fingerprint)
  if refusal then return refusal end
  if answer then return string.match(answer, '^%S+') end
end
local before = call('GET', key)
if before then
  -- What INCRBY would not take is no counter. It is not asked, since a full server would refuse it, and this frees memory.
  local sign, digits = string.match(before, '^(%-?)([1-9]%d*)$')
  local most = sign == '-' and '9223372036854775808' or '9223372036854775807'
  if before ~= '0' and (not digits or #digits > 19 or #digits == 19 and digits > most) then
    return redis.error_reply('WRONGTYPE the counter holds no 64-bit integer; it was left as it is')
  end
  call('DEL', key)
end
if id then keep(recent, older, id, window, fingerprint .. ' ' .. (before or '0') .. ' 1') end
return before
