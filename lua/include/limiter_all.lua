-- limiter_all: takes of the limits of the first `count` keys, or of none. Needs `call`, `now`, and the functions of all algorithms. `args` is of
-- each in turn: its algorithm, the two numbers that say what it is, permits asked for, and the third number of a token bucket, else ''. Returns
-- what limiter_take_all says; nothing at all where a key holds something else.
local kinds = {g = gcra, b = bucket, f = fixed, s = sliding, l = log}
local stores = {g = gcra_store, b = store, f = store, s = store, l = log_store}
local function take_all(keys, count, args)
  local states, resets = {}, {}
  local denied, least, which, free, wait, reset = 0, nil, 0, 0, 0, 0
  for i = 1, count do
    local at = 5 * i
    local ok, left, later, whole, state = kinds[args[at - 4]](keys[i], tonumber(args[at - 3]), tonumber(args[at - 2]), tonumber(args[at - 1]), 'take', tonumber(args[at]))
    if not ok then return end
    if ok == 0 then
      if denied == 0 or later > wait then which, free, wait, reset = i - 1, left, later, whole end
      denied = 1
      -- A clock that has stepped back is written down also now, as by a single denial.
      if state then stores[args[at - 4]](keys[i], state, whole) end
    else
      if denied == 0 and (not least or left < least) then least, which, free, reset = left, i - 1, left, whole end
      states[i], resets[i] = state, whole
    end
  end
  if denied == 0 then
    for i = 1, count do stores[args[5 * i - 4]](keys[i], states[i], resets[i]) end
  end
  return denied, which, free, wait, reset
end
