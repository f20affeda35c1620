-- limiter_sliding: two windows of the server's clock, of which the previous one counts for the part of it that is less than `period` ago.
-- Needs `call` and `now`; writes nothing. Returns what limiter_gcra says.
--
-- What the previous window counts for is rounded up. The state is "start count previous".
local function sliding(key, limit, period, cost, mode)
  local start = now - now % period
  local count, previous, stepped = 0, 0, false
  local value = call('GET', key)
  if value then
    local began, counted, before = string.match(value, '^(%d+) (%d+) (%d+)$')
    if not began then return end
    began = tonumber(began)
    if began >= start then
      -- As in limiter_fixed: one from the future counts as this one.
      count, previous = tonumber(counted), tonumber(before)
      stepped = began > now
    elseif began >= start - period then
      previous = tonumber(counted)
    end
    -- Of a higher limit: no more than this one counts with, which also keeps the products exact.
    if count > limit then count = limit end
    if previous > limit then previous = limit end
  end
  local left = start + period - now
  if mode == 'refund' then
    if count + previous == 0 then return 0, limit, 0, 0, nil end
    local back = math.min(count, cost)
    count, previous = count - back, math.max(0, previous - (cost - back))
  end
  local weight = math.ceil(previous * left / period)
  local free = math.max(0, limit - count - weight)
  local reset = count > 0 and left + period or previous > 0 and left or 0
  if mode == 'refund' then
    return 0, free, 0, reset, reset > 0 and string.format('%.0f %.0f %.0f', start, count, previous)
  elseif mode == 'upto' then
    cost = math.max(1, math.min(cost, free))
  end
  if cost > free then
    local room, wait = limit - cost - count, 0
    if cost > limit then
      -- Never, as the caller knows.
      wait = 0
    elseif room >= 0 then
      -- While this window lasts, or when it ends.
      wait = left - math.floor(room * period / previous)
    else
      -- When this one has become the previous one.
      wait = left + period - math.floor((limit - cost) * period / count)
    end
    return 0, free, wait, reset, stepped and string.format('%.0f %.0f %.0f', start, count, previous) or nil
  end
  return cost, free - cost, 0, left + period, string.format('%.0f %.0f %.0f', start, count + cost, previous)
end
