-- limiter_take: let permits through if the limit allows it now (GCRA).
--
-- KEYS[1]  the state, as in include/limiter_gcra.lua
-- ARGV[1]  microseconds that one permit costs
-- ARGV[2]  microseconds that a full burst costs: permits of a burst times ARGV[1]
-- ARGV[3]  permits asked for
-- ARGV[4]  'take'; 'peek' to answer as if and write nothing; 'upto' to take as many as there are, up to so many; or 'refund' to give back
-- Returns  {permits taken, or 0 when denied, permits left, microseconds until this could be taken, microseconds until all are there}
-- Retry    unsafe: a repetition takes again
local call, key, mode = redis.call, KEYS[1], ARGV[4]
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
-- include limiter_gcra_store
-- What almost every call is: limiter_gcra without its function, and with a write that keeps the time to live.
if mode == 'take' then
  local interval, value = ARGV[1], call('GET', key)
  local stored = tonumber(value or now)
  if not stored then return {err = 'WRONGTYPE the key holds something else than a rate limiter'} end
  local arrival, limit, price = stored, now + ARGV[2], interval
  if ARGV[3] ~= '1' then price = ARGV[3] * interval end
  if arrival < now then arrival = now elseif arrival > limit then arrival = limit end
  local later = arrival + price
  if later > limit then
    if arrival < stored then gcra_store(key, arrival) end
    return {0, (limit - arrival) / interval, later - limit, arrival - now}
  end
  -- INCRBY keeps the time to live, and costs a fifth of a SET that sets one.
  local epoch = later - later % 5000000
  if not value or stored < epoch or stored >= epoch + 5000000 then
    gcra_store(key, later)
  elseif redis.pcall('INCRBY', key, arrival == stored and price or later - stored) ~= later then
    -- A number that is not written as Redis writes one.
    gcra_store(key, later)
  end
  return {ARGV[3] + 0, (limit - later) / interval, 0, later - now}
end
-- include limiter_gcra
local taken, free, wait, reset, state = gcra(key, tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), mode)
if not taken then return {err = 'WRONGTYPE the key holds something else than a rate limiter'} end
if state ~= nil and mode ~= 'peek' then gcra_store(key, state) end
return {taken, free, wait, reset}
