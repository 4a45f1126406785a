-- List what waits in an ordered set for its time, earliest first.
--
-- KEYS  1 the set
-- ARGV  1 limit
-- Returns member, score, … of each.

return redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1, 'WITHSCORES')
