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
-- include limiter_gcra_store
-- include limiter_bucket
-- include limiter_fixed
-- include limiter_sliding
-- include limiter_log
-- include limiter_store
-- include limiter_all
local denied, which, free, wait, reset = take_all(KEYS, #KEYS, ARGV)
if not denied then return {err = 'WRONGTYPE the key holds something else than a rate limiter'} end
return {denied, which, free, wait, reset}
