-- Delete all that waits in a queue, and what was handed back to it for later.
--
-- KEYS  1 queue  2 postponed
-- Returns how many there were.

local count = redis.call('LLEN', KEYS[1]) + redis.call('ZCARD', KEYS[2])
redis.call('UNLINK', KEYS[1], KEYS[2])
return count
