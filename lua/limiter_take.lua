-- limiter_take: let permits through if the limit allows it now (GCRA).
--
-- KEYS[1]  the state, as in include/limiter_gcra.lua
-- ARGV[1]  microseconds that one permit costs
-- ARGV[2]  microseconds that a full burst costs: permits of a burst times ARGV[1]
-- ARGV[3]  permits asked for
-- ARGV[4]  'take'; 'peek' to answer as if and write nothing; 'upto' to take as many as there are, up to so many; or 'refund' to give back
-- Returns  {permits taken, or 0 when denied, permits left, microseconds until this could be taken, microseconds until all are there}
-- Retry    unsafe: a repetition takes again
local call, mode = redis.call, ARGV[4]
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
-- include limiter_gcra
-- include limiter_store
local taken, free, wait, reset, state = gcra(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), mode)
if not taken then return {err = 'WRONGTYPE the key holds something else than a rate limiter'} end
if state ~= nil and mode ~= 'peek' then store(KEYS[1], state, reset) end
return {taken, free, wait, reset}
