-- Delete a key while it has a value.
--
-- KEYS  1 key
-- ARGV  1 value
-- Returns 1 when it was deleted, else 0.

if redis.call('GET', KEYS[1]) == ARGV[1] then
    return redis.call('DEL', KEYS[1])
end
return 0
