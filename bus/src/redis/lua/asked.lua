-- What publish.lua is asked, which says how: `publishes`, each with what is `said` of its events, and what is known of them.
if part.partitions and part.partitions ~= args[3] then return 0 end

opens(args[1], args[2], args[6], args[3]:find(',', 1, true) ~= nil)
local STEP = args[7] == '1' and 3 or 2

-- What is said of an event besides itself: by the place of its digest.
local more = {}
local publishes, asked = {}, {}
local at = 9
for i = 1, tonumber(args[4]) do
    local expected, lease, number = args[at]:match('^(%d*)@?([^=]*)=?(%d*)$')
    local publish = { expected = expected, lease = lease, number = tonumber(number), outbox = args[at + 1], at = at + 4 }
    publish.no, publish.count = tonumber(args[at + 2]), tonumber(args[at + 3])
    at = publish.at + STEP * publish.count
    publish.last = at - 1
    if publish.outbox == '' and log.reach > 0 then
        for event = publish.at, publish.last, STEP do asked[#asked + 1] = args[event] end
    end
    if STEP == 3 then
        for event = publish.at, publish.last, STEP do
            local version, due = args[event + 2]:match('^(%d*):(%d*)$', 17)
            local said = { key = args[event + 2]:sub(1, 16), version = tonumber(version), due = tonumber(due) }
            if said.due and said.due <= part.now then said.due = nil end
            publish.expects = publish.expects or said.version ~= nil
            publish.waits = (publish.waits or 0) + (said.due and 1 or 0)
            more[event] = said
        end
    end
    publishes[i] = publish
end
local NOTHING = {}
local function said(event) return more[event] or NOTHING end

local window = {}
if #asked > 0 then
    for i, found in ipairs(redis.call('HMGET', DEDUPE, unpack(asked))) do
        if found then window[asked[i]] = within(found) end
    end
    if next(window) and redis.call('EXISTS', STREAM) == 0 then
        -- Somebody deleted it: what was recorded is no more.
        forget_log(first)
        window = {}
    end
end

-- A later number of the lease that a publish was made under, if one was seen.
local function later(publish)
    if not publish.number then return nil end
    local field = 'f:' .. publish.lease
    local seen = tonumber(redis.call('HGET', META, field) or 0)
    if seen > publish.number then return seen end
    if seen < publish.number then redis.call('HSET', META, field, int(publish.number)) end
end

-- Where an event was recorded before, if it was; 0: nobody knows where. Or when it is due, if it waits.
local function known(from, no, event)
    local digest = args[event]
    local is_old = from and from.last and no <= from.last
    local before
    if is_old then
        before = position_of(from, no)
        if not before then
            -- It was to wait, or it is too long ago.
            local found = redis.call('HGET', DEDUPE, digest)
            before = found and within(found)
        end
    elseif not from then
        before = window[digest]
    end
    if before then return before end
    local due = due_of(digest)
    if due then return nil, due end
    return is_old and 0 or nil
end

-- Calls with each event of a publish that is new, until that answers something.
local function each_new(publish, from, visit)
    local no = publish.no
    for event = publish.at, publish.last, STEP do
        local before, due = known(from, no, event)
        if not before and not due then
            local answer = visit(event, (event - publish.at) / STEP)
            if answer then return answer end
        end
        if from then no = no + 1 end
    end
end
