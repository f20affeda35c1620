-- counter_add: add to a signed 64-bit counter, within bounds.
--
-- KEYS[1]  counter key: a decimal integer
-- KEYS[2..n]  only with an operation id: recent and older answers, as in include/once.lua
-- ARGV[1]  what to add
-- ARGV[2]  least value allowed, or '' for none
-- ARGV[3]  greatest value allowed, or '' for none
-- ARGV[4]  at a bound: 'reject' (change nothing) or 'saturate' (stop at the bound)
-- ARGV[5]  time to live in milliseconds, or '' to leave it alone
-- ARGV[6]  when to set it: 'create' (only where the counter has none) or 'refresh' (always)
-- ARGV[7..n]  only with an operation id: the id, the fingerprint of these arguments, and how long to keep the answer, milliseconds
-- Returns  {value afterwards as a string, 1 when applied in full, 0 when rejected or cut short}
-- Retry    unsafe: a repetition adds again, but for one with an operation id, which gets the first one's answer
local key, amount, low, high, overflow, ttl, ttl_mode = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local recent, older, id, fingerprint, window = KEYS[2], KEYS[3], ARGV[7], ARGV[8], ARGV[9]
local call = redis.call
-- include once
if id then
  local answer, refusal = answered(recent, older, id, fingerprint)
  if refusal then return refusal end
  if answer then
    local value, applied = string.match(answer, '^(%S+) (%d)$')
    return {value, tonumber(applied)}
  end
end

-- Numbers in Lua are doubles, exact to 2^53 only, so values are compared as decimal strings without leading zeros.
local function less(a, b)
  local a_negative, b_negative = string.byte(a) == 45, string.byte(b) == 45
  if a_negative ~= b_negative then return a_negative end
  if #a ~= #b then return (#a < #b) ~= a_negative end
  if a_negative then return a > b end
  return a < b
end

local before = call('GET', key)
local sum = redis.pcall('INCRBY', key, amount)
local value, bound
if type(sum) == 'table' then
  if not string.find(sum.err, 'overflow', 1, true) then return sum end
  -- Past 64 bits: whatever the bounds are, they come first.
  if string.byte(amount) == 45 then
    bound = low == '' and '-9223372036854775808' or low
  else
    bound = high == '' and '9223372036854775807' or high
  end
else
  value = call('GET', key)
  if low ~= '' and less(value, low) then
    bound = low
  elseif high ~= '' and less(high, value) then
    bound = high
  end
end

local applied = 1
if bound then
  applied = 0
  if overflow == 'saturate' then
    call('SET', key, bound, 'KEEPTTL')
    value = bound
  else
    if before then
      if value then call('SET', key, before, 'KEEPTTL') end
    else
      call('DEL', key)
    end
    if id then keep(recent, older, id, window, fingerprint .. ' ' .. (before or '0') .. ' 0') end
    return {before or '0', 0}
  end
end
if ttl ~= '' and (ttl_mode == 'refresh' or call('PTTL', key) < 0) then
  call('PEXPIRE', key, ttl)
end
if id then keep(recent, older, id, window, fingerprint .. ' ' .. value .. ' ' .. applied) end
return {value, applied}
