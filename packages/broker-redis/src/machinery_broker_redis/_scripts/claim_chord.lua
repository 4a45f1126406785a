-- Give the right to send a chord's callback to exactly one member, and to it each time it asks.
--
-- Go's workers do the same under a mutex: while one of them holds it, wait.
--
-- KEYS  1 meta  2 claimant  3 Go's mutex, where it is in the same slot
-- ARGV  1 the member  2 lifetime of the claimant in milliseconds  3 the metadata as it was read, when the caller could read what
--       this script could not  4 the metadata to store then  5 '1' to take over from the Go worker that was the one and does
--       nothing about it
-- Returns 1 when the member is the one, 0 when another is, -1 when there is no group, -2 while a Go worker holds the mutex, -3
-- when a Go worker was the one, or the metadata that this script cannot read.

local claimant = redis.call('GET', KEYS[2])
if claimant then
    return claimant == ARGV[1] and 1 or 0
end
local meta = redis.call('GET', KEYS[1])
if not meta then
    return -1
end
if ARGV[5] == '1' then
    redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
    return 1
end
if KEYS[3] and redis.call('EXISTS', KEYS[3]) == 1 then
    return -2
end
local triggered
if meta == ARGV[3] then
    triggered = ARGV[4]
else
    -- In a string of the document the quotes would be escaped, so this finds the key and nothing else.
    local first, last = string.find(meta, '"ChordTriggered":false', 1, true)
    if first then
        triggered = string.sub(meta, 1, first - 1) .. '"ChordTriggered":true' .. string.sub(meta, last + 1)
    elseif string.find(meta, '"ChordTriggered":true', 1, true) then
        return -3
    else
        return meta
    end
end
redis.call('SET', KEYS[1], triggered, 'KEEPTTL')
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
