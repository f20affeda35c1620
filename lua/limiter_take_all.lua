-- limiter_take_all: take permits of several limits, or of none.
--
-- KEYS[1..n]  of each limit its state, as in include/limiter_<algorithm>.lua
-- ARGV[1..n]  of each limit in turn: its algorithm ('g' GCRA, 'b' token bucket, 'f' fixed window, 's' sliding window, 'l' sliding log), the two
--             numbers that say what it is, permits asked for, and the third number of a token bucket, else ''
-- Returns  {0, which has the fewest left, from 0, how many those are, 0, microseconds until it has all} when taken; when denied {1, which one
--          denies for the longest time, permits it has left, microseconds until it could be taken, microseconds until it has all}
-- Retry    unsafe: a repetition takes again
local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
-- include limiter_gcra
-- include limiter_bucket
-- include limiter_fixed
-- include limiter_sliding
-- include limiter_log
-- include limiter_store
local kinds = {g = gcra, b = bucket, f = fixed, s = sliding, l = log}

local states, resets = {}, {}
local denied, least, which, free, wait, reset = 0, nil, 0, 0, 0, 0
for i = 1, #KEYS do
  local at = 5 * i
  local ok, left, later, whole, state = kinds[ARGV[at - 4]](KEYS[i], tonumber(ARGV[at - 3]), tonumber(ARGV[at - 2]), tonumber(ARGV[at - 1]), 'take', tonumber(ARGV[at]))
  if not ok then return {err = 'WRONGTYPE the key holds something else than a rate limiter'} end
  if ok == 0 then
    if denied == 0 or later > wait then which, free, wait, reset = i - 1, left, later, whole end
    denied = 1
    -- A clock that has stepped back is written down also now, as by a single denial.
    if state then (ARGV[at - 4] == 'l' and log_store or store)(KEYS[i], state, whole) end
  else
    if denied == 0 and (not least or left < least) then least, which, free, reset = left, i - 1, left, whole end
    states[i], resets[i] = state, whole
  end
end
if denied == 0 then
  for i = 1, #KEYS do (ARGV[5 * i - 4] == 'l' and log_store or store)(KEYS[i], states[i], resets[i]) end
end
return {denied, which, free, wait, reset}
