-- List delayed messages, earliest first.
--
-- KEYS  1 delayed
-- ARGV  1 limit
-- Returns body, nanoseconds when it is due, … of each.

return redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1, 'WITHSCORES')
