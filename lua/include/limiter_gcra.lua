-- limiter_gcra: the generic cell rate algorithm, in its virtual scheduling form. Needs `call` and `now`; writes nothing.
--
-- The state is one number: when all that was let through will have been paid for, microseconds of server time. `interval` is what one permit
-- costs, rounded up by the caller, and `window` a whole burst. As all of these functions it returns: how many permits are taken (0: denied),
-- how many are left (cut to a whole number by the reply), microseconds until `cost` could be taken, microseconds until the burst is whole,
-- and what to write (limiter_gcra_store does): nil nothing, false that the key goes. Nothing at all where the key holds something else.
local function gcra(key, interval, window, cost, mode)
  local arrival, stepped = tonumber(call('GET', key) or now)
  if not arrival then return end
  if arrival < now then
    -- A time in the past owes nothing.
    arrival = now
  elseif arrival > now + window then
    -- Further than any taker could have left it: the clock has stepped back. Written down even by a denial, or it would be so next time.
    arrival = now + window
    stepped = arrival
  end
  if mode == 'upto' then
    cost = math.max(1, math.min(cost, math.floor((now + window - arrival) / interval)))
  elseif mode == 'refund' then
    if arrival == now then return 0, window / interval, 0, 0 end
    arrival = arrival - cost * interval
    if arrival <= now then return 0, window / interval, 0, 0, false end
    return 0, (now + window - arrival) / interval, 0, arrival - now, arrival
  end
  local later = arrival + cost * interval
  local wait = later - window - now
  if wait > 0 then return 0, (now + window - arrival) / interval, wait, arrival - now, stepped end
  return cost, (now + window - later) / interval, 0, later - now, later
end
