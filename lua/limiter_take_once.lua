-- limiter_take_once: let permits through by a limit of any algorithm, exactly once for an operation's id.
--
-- KEYS[1]  the state, as in include/limiter_<algorithm>.lua
-- KEYS[2]  recent answers, as in include/once.lua
-- KEYS[3]  older answers
-- ARGV[1]  algorithm: 'g' GCRA, 'b' token bucket, 'f' fixed window, 's' sliding window, 'l' sliding log
-- ARGV[2]  the first number that says what the limit is
-- ARGV[3]  the second
-- ARGV[4]  permits asked for
-- ARGV[5]  the third number, of a token bucket, else ''
-- ARGV[6]  'take' or 'upto'
-- ARGV[7]  the operation's id
-- ARGV[8]  the fingerprint of these arguments
-- ARGV[9]  how long to keep the answer, milliseconds
-- Returns  {permits taken, or 0 when denied, permits left, microseconds until this could be taken, microseconds until all are there}
-- Retry    unsafe: within the window it is safe, as the caller says who keeps to it
local call = redis.call
local recent, older, id, fingerprint = KEYS[2], KEYS[3], ARGV[7], ARGV[8]
-- include once
local answer, refusal = answered(recent, older, id, fingerprint)
if refusal then return refusal end
if answer then
  local taken, free, wait, reset = string.match(answer, '^(%d+) (%d+) (%d+) (%d+)')
  return {tonumber(taken), tonumber(free), tonumber(wait), tonumber(reset)}
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
local kinds = {g = gcra, b = bucket, f = fixed, s = sliding, l = log}
local taken, free, wait, reset, state = kinds[ARGV[1]](KEYS[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[6], tonumber(ARGV[5]))
if not taken then return {err = 'WRONGTYPE the key holds something else than a rate limiter'} end
local stores = {g = gcra_store, b = store, f = store, s = store, l = log_store}
if state ~= nil then stores[ARGV[1]](KEYS[1], state, reset) end
keep(recent, older, id, ARGV[9], string.format('%s %d %d %d %d', fingerprint, taken, free, wait, reset))
return {taken, free, wait, reset}
