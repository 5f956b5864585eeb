-- Takes in what is copied from another bus, before anybody uses the partition: whoever does so is noticed, since every other
-- script begins a lineage and leaves the server's id. It runs without the prelude, and begins none: the first to use the
-- partition does, and continues what was copied.
-- keys: 1: meta  2: stream  3: dedupe  4: its order  5: groups; of a step on a group besides 6: state  7: dead  8: died
--       9: order
-- args: 1: what is copied: a name  2: the step  3...: of the step
-- The meta's field `copying` is what is being copied, `at` the next position to come; `copied` is what was.
local META, STREAM, DEDUPE, ORDER, GROUPS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local name, step = ARGV[1], ARGV[2]
local had = redis.call('HMGET', META, 'copying', 'copied', 'at', 'server', 'seq')
local copying, copied, at, used, seq = had[1], had[2], tonumber(had[3]), had[4], tonumber(had[5] or 0)

-- args: 3: the first position to come; 4: what the keys of groups begin with
-- Answers the next position to come; 0 where all has been copied.
if step == 'begin' then
    if copied == name then return 0 end
    if used and (copying or seq > 0) or copied then return redis.error_reply('INUSE somebody uses it') end
    if copying == name then return at end
    -- Nothing, or what a copy of something else left that never ended.
    for _, group in ipairs(redis.call('SMEMBERS', GROUPS)) do
        local state = ARGV[4] .. group
        redis.call('UNLINK', state, state .. ':dead', state .. ':died', state .. ':order')
    end
    redis.call('UNLINK', META, STREAM, DEDUPE, ORDER, GROUPS)
    redis.call('HSET', META, 'copying', name, 'at', ARGV[3])
    return tonumber(ARGV[3])
end

if copying ~= name or used then return redis.error_reply('INUSE somebody uses it') end

-- args: 3: the first of these positions; 4: the position after them; 5: how long the dedupe window is kept, in milliseconds;
--       then of each entry: first position, when it was recorded, lineage, bytes before it, how many events, and of each
--       its digest ('' where it is outside the window) and itself
if step == 'events' then
    if tonumber(ARGV[3]) ~= at then return redis.error_reply('INUSE somebody uses it') end
    local arg = 6
    while arg <= #ARGV do
        local first, recorded, count = ARGV[arg], ARGV[arg + 1], tonumber(ARGV[arg + 4])
        local entry, digests, remembered = { 'l', ARGV[arg + 2], 'b', ARGV[arg + 3] }, {}, {}
        arg = arg + 5
        for i = 0, count - 1 do
            local digest = ARGV[arg + 2 * i]
            if digest ~= '' then
                digests[#digests + 1] = digest
                remembered[#remembered + 1] = digest
                remembered[#remembered + 1] = string.format('%.0f', first + i) .. ':' .. recorded
            end
            entry[#entry + 1] = 'e'
            entry[#entry + 1] = ARGV[arg + 2 * i + 1]
        end
        arg = arg + 2 * count
        redis.call('XADD', STREAM, first .. '-' .. recorded, unpack(entry))
        if #digests > 0 then
            redis.call('HSET', DEDUPE, unpack(remembered))
            redis.call('RPUSH', ORDER, recorded .. ':' .. first .. ':' .. table.concat(digests))
            redis.call('PEXPIRE', DEDUPE, ARGV[5])
            redis.call('PEXPIRE', ORDER, ARGV[5])
        end
    end
    redis.call('HSET', META, 'at', ARGV[4])
    return 1
end

-- args: 3: the group; 4: '1': the first of its steps; 5: how many fields of the state; then these with their values; then
--       of each dead letter its position, text, when it died, and '1' if it is with the group again
if step == 'group' then
    if ARGV[4] == '1' then redis.call('UNLINK', KEYS[6], KEYS[7], KEYS[8], KEYS[9]) end
    redis.call('SADD', GROUPS, ARGV[3])
    local arg, last = 6, 5 + 2 * tonumber(ARGV[5])
    while arg <= last do
        -- Lua's stack holds some thousand values.
        local to = math.min(arg + 1023, last)
        redis.call('HSET', KEYS[6], unpack(ARGV, arg, to))
        arg = to + 1
    end
    while arg <= #ARGV do
        local position = ARGV[arg]
        redis.call('HSET', KEYS[7], position, ARGV[arg + 1])
        if ARGV[arg + 3] ~= '1' then
            redis.call('ZADD', KEYS[8], ARGV[arg + 2], position)
            redis.call('ZADD', KEYS[9], position, position)
        end
        arg = arg + 4
    end
    return 1
end

-- args: fields of the meta
redis.call('HDEL', META, 'copying', 'at')
redis.call('HSET', META, 'copied', name, unpack(ARGV, 3))
return 1
