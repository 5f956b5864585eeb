-- Takes a lease, or has it longer. One that is over is taken anew, by whoever asks first.
-- KEYS: 1: the lease; ARGV: 1: who asks; 2: for how long, in milliseconds (0: gives it back); 3: the time, where a test tells it
-- Answers its number, or 0 where somebody else has it.
local now = tonumber(ARGV[3])
if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local time = tonumber(ARGV[2])
local had = redis.call('HMGET', KEYS[1], 'holder', 'number', 'until', 'time')
local holder, number, ends = had[1], tonumber(had[2] or 0), tonumber(had[3] or 0)
-- A clock that stepped back since makes nobody's lease longer than it was asked for.
if holder and ends > now + tonumber(had[4]) then ends = now + tonumber(had[4]) end
local is_over = not holder or ends <= now
if time == 0 then
    if holder == ARGV[1] then redis.call('HSET', KEYS[1], 'until', 0) end
    return 0
end
if not is_over and holder ~= ARGV[1] then return 0 end
-- A number that was forgotten with everything else was an earlier time's.
if is_over then number = math.max(number + 1, now) end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'number', string.format('%d', number), 'until',
    string.format('%d', now + time), 'time', ARGV[2])
return number
