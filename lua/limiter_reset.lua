-- limiter_reset: forget what was let through.
--
-- KEYS[1]  the limiter's key
-- Returns  1 when there was something to forget, 0 when not
-- Retry    safe: forgetting twice only forgives what came between
return redis.call('DEL', KEYS[1])
