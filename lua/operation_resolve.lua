-- operation_resolve: what an operation with an id answered; one that has not come yet is declared void, and refused from then on.
--
-- KEYS[1]  recent answers, as in include/once.lua
-- KEYS[2]  older answers
-- ARGV[1]  the operation's id
-- ARGV[2]  the kind of object, the first character of the fingerprint
-- ARGV[3]  how long to refuse it, milliseconds
-- Returns  the answer as text; nil when it is void
-- Retry    safe: what is void stays so
local recent, older, id, kind, window = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
-- include once
local kept = redis.call('HGET', recent, id) or redis.call('HGET', older, id)
if not kept then keep(recent, older, id, window, '-') end
if not kept or kept == '-' then return false end
if string.sub(kept, 1, 1) ~= kind then return {err = 'OPMISUSE this operation id was used for another kind of object'} end
return string.match(kept, '^%S+ (.*)$')
