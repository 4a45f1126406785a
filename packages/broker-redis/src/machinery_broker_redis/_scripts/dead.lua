-- List dead letters, oldest first.
--
-- KEYS  1 dead  2 dead bodies  3 dead reasons
-- ARGV  1 limit
-- Returns id, milliseconds when it died, body, reason, … of each.

local found = redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1, 'WITHSCORES')
local letters = {}
for i = 1, #found, 2 do
    local body = redis.call('HGET', KEYS[2], found[i])
    if body then
        letters[#letters + 1] = found[i]
        letters[#letters + 1] = found[i + 1]
        letters[#letters + 1] = body
        letters[#letters + 1] = redis.call('HGET', KEYS[3], found[i]) or ''
    end
end
return letters
