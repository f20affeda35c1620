-- mutex_release: give the lease back, if this owner has it.
--
-- KEYS[1]  lease key
-- ARGV[1]  owner id
-- Returns  1 when released, 0 when this owner does not have it
-- Retry    unsafe: a repetition cannot tell "released before" from "lost"; mutex_withdraw is the repetition
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  return 1
end
return 0
