-- election_proclaim: publish the leader's value, if the caller leads.
--
-- KEYS[1]  lease key
-- KEYS[2]  term key: a hash of term, owner, revision and value
-- KEYS[3]  observers key
-- ARGV[1]  owner id
-- ARGV[2]  term: the lease's token
-- ARGV[3]  revision: rises with each value of the term
-- ARGV[4]  value
-- Returns  1 when this owner leads, and the value or one of a later revision is published; 0 when it does not lead
-- Retry    safe: an older revision never takes the place of a newer one
local lease, record, observers = KEYS[1], KEYS[2], KEYS[3]
local call = redis.call
local holder = call('GET', lease)
if not holder or string.match(holder, '[^~].*') ~= ARGV[1] then return 0 end
local known = call('HMGET', record, 'term', 'revision')
if known[1] == ARGV[2] and tonumber(known[2]) >= tonumber(ARGV[3]) then return 1 end
-- A full server lets a script write whose first write frees something.
call('DEL', record)
call('HSET', record, 'term', ARGV[2], 'owner', ARGV[1], 'revision', ARGV[3], 'value', ARGV[4])
call('PEXPIRE', record, '172800000')
local now = call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
-- include election_tell
tell()
return 1
