-- election_resign: give the lease of a leader back, hand it to who campaigns next, and tell who watches.
--
-- KEYS[1]  lease key
-- KEYS[2]  fence key
-- KEYS[3]  queue key
-- KEYS[4]  readers key
-- KEYS[5]  term key
-- KEYS[6]  observers key
-- ARGV[1]  owner id
-- Returns  1 when released, 0 when this owner does not have it
-- Retry    unsafe: a repetition cannot tell "released before" from "lost"; mutex_withdraw is the repetition
local call = redis.call
local lease, fence, queue, readers, observers = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[6]
local value, owner = call('GET', lease), ARGV[1]
local readers_wait = value == '~~' .. owner
if not readers_wait and value ~= '~' .. owner and value ~= owner then return 0 end
local now = call('TIME')
-- include lock_queue
-- include election_tell
-- A full server lets a script write whose first write frees something.
call('DEL', lease, KEYS[5])
pass_on(readers_wait, '~')
tell()
return 1
