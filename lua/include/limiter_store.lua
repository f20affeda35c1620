-- limiter_store: writes a state down, to expire by itself when it says nothing any more. Needs `call`.
--
-- A millisecond later, since the server counts an expiry from the beginning of the script, which may lie in the millisecond before TIME's.
local function store(key, state, reset)
  if not state then return call('DEL', key) end
  call('SET', key, state, 'PX', math.ceil(reset / 1000) + 1)
end
