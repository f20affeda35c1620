-- limiter_gcra_store: writes the state of limiter_gcra down. Needs `call` and `now`.
--
-- The server's time is cut into epochs of five seconds, and a key expires when the one has ended in which its state lies, whoever wrote it and
-- with what limit. So a state that moves within its epoch need not be told again when to expire, and that makes a call a fifth cheaper.
--
-- A tenth of a second later, since the server counts an expiry from the beginning of the script, which lies before TIME's answer.
local function gcra_store(key, state)
  if not state then return call('DEL', key) end
  local left = (state - state % 5000000 + 5000000 - now) / 1000
  call('SET', key, state, 'PX', left - left % 1 + 101)
end
