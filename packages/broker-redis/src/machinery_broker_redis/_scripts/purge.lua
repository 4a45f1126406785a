-- Delete all that waits in a queue.
--
-- KEYS  1 queue
-- Returns how many there were.

local count = redis.call('LLEN', KEYS[1])
redis.call('UNLINK', KEYS[1])
return count
