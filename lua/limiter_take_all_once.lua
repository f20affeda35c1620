-- limiter_take_all_once: take permits of several limits, or of none, exactly once for an operation's id.
--
-- KEYS[1..n]  of each limit its state, as in include/limiter_<algorithm>.lua; behind them recent answers, as in include/once.lua, and older answers
-- ARGV[1..n]  of each limit in turn the five of limiter_take_all; behind them the operation's id, the fingerprint of the arguments, and how long
--             to keep the answer, milliseconds
-- Returns  as limiter_take_all
-- Retry    unsafe: within the window it is safe, as the caller says who keeps to it
local call, count = redis.call, #KEYS - 2
local recent, older, id, fingerprint, window = KEYS[count + 1], KEYS[count + 2], ARGV[5 * count + 1], ARGV[5 * count + 2], ARGV[5 * count + 3]
-- include once
local answer, refusal = answered(recent, older, id, fingerprint)
if refusal then return refusal end
if answer then
  local numbers = {}
  for number in string.gmatch(answer, '%d+') do numbers[#numbers + 1] = tonumber(number) end
  return numbers
end
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
-- include limiter_gcra
-- include limiter_gcra_store
-- include limiter_bucket
-- include limiter_fixed
-- include limiter_sliding
-- include limiter_log
-- include limiter_store
-- include limiter_all
local denied, which, free, wait, reset = take_all(KEYS, count, ARGV)
if not denied then return {err = 'WRONGTYPE the key holds something else than a rate limiter'} end
keep(recent, older, id, window, string.format('%s %d %d %d %d %d', fingerprint, denied, which, free, wait, reset))
return {denied, which, free, wait, reset}
