BEGIN TRANSACTION;
CREATE TABLE campaigns (
    name TEXT PRIMARY KEY,
    created_at TEXT NOT NULL,
    seed INTEGER,
    paused_because TEXT
) WITHOUT ROWID;
CREATE TABLE events (                        -- append-only
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    scheduled_message_id INTEGER,
    event TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT ''
);
INSERT INTO "events" VALUES(1,'2026-11-29 20:21:05','sql',1,'added','scheduled for 2025-11-09 18:00:00');
INSERT INTO "events" VALUES(2,'2026-11-29 20:21:05','sql',2,'added','scheduled for 2025-11-09 18:05:00');
INSERT INTO "events" VALUES(3,'2026-11-29 20:21:05','sql',3,'added','scheduled for 2025-10-31 18:00:00');
INSERT INTO "events" VALUES(4,'2026-11-29 20:21:05','sql',4,'added','scheduled for 2025-11-10 18:00:00');
INSERT INTO "events" VALUES(5,'2026-11-29 20:21:05','sql',5,'added','scheduled for 2025-11-09 18:20:00');
INSERT INTO "events" VALUES(6,'2025-11-09 18:00:00','daemon',3,'held','more than 7 days late');
INSERT INTO "events" VALUES(7,'2025-11-09 18:00:00','daemon',1,'failed','was scheduled CMS 28 unidentified subscriber');
INSERT INTO "events" VALUES(8,'2025-11-09 18:08:00','daemon',2,'failed','was scheduled may have been sent: bubble 1 of 1, segment 2 of 3: the modem gave no result');
CREATE TABLE inbound (
    id INTEGER PRIMARY KEY,
    received_at TEXT NOT NULL,
    sent_at TEXT,
    sender TEXT NOT NULL,
    body TEXT,                               -- NULL: not readable
    tpdu TEXT NOT NULL,
    request TEXT NOT NULL,
    read_at TEXT,
    answers INTEGER                          -- the row that a reply, no command, came after
);
CREATE TABLE inbound_parts (                 -- of long texts
    id INTEGER PRIMARY KEY,
    received_at TEXT NOT NULL,
    sender TEXT NOT NULL,
    sent_at TEXT NOT NULL,
    reference INTEGER NOT NULL,
    total INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    tpdu TEXT NOT NULL,
    joined INTEGER NOT NULL DEFAULT 0,       -- 1: its text stands in inbound
    UNIQUE (sender, sent_at, reference, total, sequence, tpdu)
);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,    -- its last eight bits are the concatenation reference
    scheduled_message_id INTEGER REFERENCES scheduled_messages (id),
    kind TEXT                                -- of a text of the box itself
        CHECK (kind IN ('confirmation', 'help', 'alert', 'answer')),
    phone_number TEXT NOT NULL,
    bubble INTEGER NOT NULL DEFAULT 1,
    body TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'queued' CHECK (status IN
        ('queued', 'sending', 'sent', 'failed', 'cancelled', 'unconfirmed')),
    created_at TEXT NOT NULL,
    sent_at TEXT,
    delivered_at TEXT,
    error_message TEXT
);
INSERT INTO "messages" VALUES(1,1,NULL,'+12135552313',1,'refused','failed','2025-11-09 18:00:00',NULL,NULL,'CMS 28 unidentified subscriber');
INSERT INTO "messages" VALUES(2,2,NULL,'+12135552314',1,'This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on.','unconfirmed','2025-11-09 18:05:00',NULL,NULL,'segment 2 of 3: the modem gave no result');
INSERT INTO "messages" VALUES(40,5,NULL,'+12135552317',1,'This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on.','sending','2025-11-09 18:20:00',NULL,NULL,NULL);
CREATE TABLE opt_outs (
    phone_number TEXT PRIMARY KEY
        CONSTRAINT "phone_number is + and 8 to 15 digits, like +12135551234"
        CHECK (phone_number GLOB '+[1-9]*' AND length(phone_number) BETWEEN 9 AND 16
            AND substr(phone_number, 2) NOT GLOB '*[^0-9]*'),
    at TEXT NOT NULL DEFAULT (datetime('now')),
    words TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    tier TEXT NOT NULL DEFAULT 'operator'    -- START lifts a keyword's, and no other
        CHECK (tier IN ('keyword', 'words', 'operator', 'import')),
    campaign TEXT NOT NULL DEFAULT '',       -- of the last message before it
    actor TEXT                               -- the writer's signature, moved to events at once
) WITHOUT ROWID;
CREATE TABLE reports (                       -- the network's status reports
    id INTEGER PRIMARY KEY,
    received_at TEXT NOT NULL,
    phone_number TEXT NOT NULL,
    message_reference INTEGER NOT NULL,
    delivery TEXT NOT NULL,
    words TEXT NOT NULL,
    sent_at TEXT NOT NULL,
    discharged_at TEXT NOT NULL,
    tpdu TEXT NOT NULL UNIQUE,
    segment_id INTEGER REFERENCES segments (id) ON DELETE SET NULL
);
CREATE TABLE scheduled_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    phone_number TEXT NOT NULL,
    customer_name TEXT NOT NULL DEFAULT '',
    message_content TEXT NOT NULL,
    scheduled_for TEXT NOT NULL,             -- UTC
    status TEXT NOT NULL DEFAULT 'scheduled'
        CHECK (status IN ('scheduled', 'sent', 'cancelled', 'failed')),
    campaign_message_id TEXT,
    campaign_name TEXT NOT NULL DEFAULT '',
    sent_at TEXT,
    error_message TEXT,
    created_at TEXT NOT NULL DEFAULT (datetime('now')),
    updated_at TEXT NOT NULL DEFAULT (datetime('now')),
    held_because TEXT,                       -- NULL: free to go
    anyway INTEGER NOT NULL DEFAULT 0 CHECK (anyway IN (0, 1)),
    attempts INTEGER NOT NULL DEFAULT 0      -- passing refusals so far
        CHECK (typeof(attempts) = 'integer'),
    delivery TEXT CHECK (delivery IN ('delivered', 'failed', 'expired')),  -- NULL: not known
    timezone TEXT NOT NULL DEFAULT '',
    until TEXT,                              -- UTC; not sent after it; NULL: no such end
    consent_at TEXT NOT NULL DEFAULT '',
    consent_source TEXT NOT NULL DEFAULT '',
    actor TEXT,                              -- the writer's signature, moved to events at once
    CONSTRAINT "a text is no blob: CAST it AS TEXT"
    CHECK ('blob' NOT IN (typeof(phone_number), typeof(customer_name), typeof(message_content),
        typeof(scheduled_for), typeof(campaign_message_id), typeof(campaign_name),
        typeof(error_message), typeof(held_because)))
);
INSERT INTO "scheduled_messages" VALUES(1,'+12135552313','Name','refused','2025-11-09 18:00:00','failed',NULL,'spring',NULL,'CMS 28 unidentified subscriber','2026-11-29 20:21:05','2025-11-09 18:00:00',NULL,0,0,NULL,'',NULL,'','',NULL);
INSERT INTO "scheduled_messages" VALUES(2,'+12135552314','Name','This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. This is a sentence that goes on. ','2025-11-09 18:05:00','failed',NULL,'spring',NULL,'may have been sent: bubble 1 of 1, segment 2 of 3: the modem gave no result','2026-11-29 20:21:05','2025-11-09 18:08:00',NULL,0,0,NULL,'',NULL,'','',NULL);
INSERT INTO "scheduled_messages" VALUES(3,'+12135552315','Name','late','2025-10-31 18:00:00','scheduled',NULL,'spring',NULL,NULL,'2026-11-29 20:21:05','2025-11-09 18:00:00','more than 7 days late',0,0,NULL,'',NULL,'','',NULL);
INSERT INTO "scheduled_messages" VALUES(4,'+12135552316','Name','restored','2025-11-10 18:00:00','scheduled',NULL,'spring',NULL,NULL,'2026-11-29 20:21:05','2026-11-29 20:21:05','restored from a copy of 2025-11-08 10:00:00: may have been sent since',0,0,NULL,'',NULL,'','',NULL);
INSERT INTO "scheduled_messages" VALUES(5,'+12135552317','Name','waits','2025-11-09 18:20:00','scheduled',NULL,'spring',NULL,NULL,'2026-11-29 20:21:05','2026-11-29 20:21:05',NULL,0,0,NULL,'',NULL,'','',NULL);
CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    message_id INTEGER NOT NULL REFERENCES messages (id),
    sequence INTEGER NOT NULL,
    total INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('sending', 'sent', 'failed', 'unconfirmed')),
    message_reference INTEGER,               -- TP-MR as the modem gave it
    reference_before INTEGER,                -- the SIM's last TP-MR before this one; NULL: unknown
    submitted_at TEXT NOT NULL,
    answered_at TEXT,
    delivered_at TEXT,
    delivery TEXT,                           -- the last word of its status reports
    error_message TEXT,
    UNIQUE (message_id, sequence)
);
INSERT INTO "segments" VALUES(1,1,1,1,'failed',NULL,NULL,'2025-11-09 18:00:00',NULL,NULL,NULL,'CMS 28 unidentified subscriber');
INSERT INTO "segments" VALUES(2,2,1,3,'sent',1,NULL,'2025-11-09 18:05:00','2025-11-09 18:05:00',NULL,NULL,NULL);
INSERT INTO "segments" VALUES(3,2,2,3,'unconfirmed',NULL,1,'2025-11-09 18:05:00',NULL,NULL,NULL,'segment 2 of 3: the modem gave no result');
INSERT INTO "segments" VALUES(4,40,1,3,'sent',9,NULL,'2025-11-09 18:20:00','2025-11-09 18:20:02',NULL,NULL,NULL);
INSERT INTO "segments" VALUES(5,40,2,3,'sending',NULL,NULL,'2025-11-09 18:20:02',NULL,NULL,NULL,NULL);
CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "state" VALUES('account_refused','1');
INSERT INTO "state" VALUES('hours','America/Los_Angeles 540-1200 [0, 1, 2, 3, 4, 5, 6] [] 480-1260 False');
INSERT INTO "state" VALUES('iccid','8901260000000000017');
INSERT INTO "state" VALUES('modem_imei','867584030000017');
INSERT INTO "state" VALUES('paused_because','refused: CMS 50 requested facility not subscribed');
INSERT INTO "state" VALUES('power_mark','0db3317c-2f6e-478b-9e68-f105b0ba4427 3528');
INSERT INTO "state" VALUES('reference 867584030000017 8901260000000000017','does not follow');
INSERT INTO "state" VALUES('trusted_boot','0db3317c-2f6e-478b-9e68-f105b0ba4427');
CREATE INDEX rows_due ON scheduled_messages (scheduled_for, id)
    WHERE status = 'scheduled' AND held_because IS NULL;
CREATE INDEX rows_due_by_campaign ON scheduled_messages (campaign_name, scheduled_for, id)
    WHERE status = 'scheduled' AND held_because IS NULL;
CREATE INDEX rows_by_status ON scheduled_messages (status, delivery);
CREATE INDEX rows_sent ON scheduled_messages (sent_at) WHERE status = 'sent';
CREATE INDEX rows_by_number ON scheduled_messages (phone_number);
CREATE INDEX rows_by_campaign ON scheduled_messages (campaign_name, status);
CREATE INDEX rows_held ON scheduled_messages (held_because)
    WHERE status = 'scheduled' AND held_because IS NOT NULL;
CREATE INDEX bubbles_by_row ON messages (scheduled_message_id);
CREATE INDEX bubbles_open ON messages (scheduled_message_id)
    WHERE status IN ('queued', 'sending');
CREATE INDEX bubbles_unconfirmed ON messages (scheduled_message_id) WHERE status = 'unconfirmed';
CREATE INDEX answers_by_number ON messages (phone_number) WHERE kind IS NOT NULL;
CREATE INDEX segments_open ON segments (message_id) WHERE status = 'sending';
CREATE INDEX segments_by_reference ON segments (message_reference, submitted_at);
CREATE UNIQUE INDEX inbound_once ON inbound (sender, sent_at, coalesce(body, tpdu))
    WHERE tpdu <> '';
CREATE INDEX inbound_unread ON inbound (id) WHERE read_at IS NULL;
CREATE INDEX parts_waiting ON inbound_parts (sender, reference, total) WHERE joined = 0;
CREATE INDEX reports_unmatched ON reports (received_at) WHERE segment_id IS NULL;
CREATE INDEX reports_by_segment ON reports (segment_id);
CREATE INDEX events_by_row ON events (scheduled_message_id);
CREATE TRIGGER events_keep BEFORE UPDATE ON events
BEGIN SELECT raise(ABORT, 'events is the audit: it is only added to'); END;
CREATE TRIGGER events_stay BEFORE DELETE ON events
BEGIN SELECT raise(ABORT, 'events is the audit: it is only added to'); END;
CREATE TRIGGER scheduled_for_checked_insert BEFORE INSERT ON scheduled_messages
WHEN  (
    coalesce(datetime(NEW.scheduled_for, '+0 days') NOT BETWEEN '2020' AND '2100', 1)
    OR NEW.scheduled_for GLOB '????-??-??*'
    AND date(substr(NEW.scheduled_for, 1, 10), '+0 days') IS NOT substr(NEW.scheduled_for, 1, 10))
BEGIN SELECT raise(ABORT,
    'scheduled_for is not a time of 2020 to 2099: write UTC as YYYY-MM-DD HH:MM:SS'); END;
CREATE TRIGGER scheduled_for_normal_insert AFTER INSERT ON scheduled_messages
WHEN NEW.scheduled_for IS NOT datetime(NEW.scheduled_for, '+0 days')
BEGIN
    UPDATE scheduled_messages SET scheduled_for = datetime(NEW.scheduled_for, '+0 days') WHERE id = NEW.id;
END;
CREATE TRIGGER scheduled_for_checked_update BEFORE UPDATE OF scheduled_for ON scheduled_messages
WHEN  (
    coalesce(datetime(NEW.scheduled_for, '+0 days') NOT BETWEEN '2020' AND '2100', 1)
    OR NEW.scheduled_for GLOB '????-??-??*'
    AND date(substr(NEW.scheduled_for, 1, 10), '+0 days') IS NOT substr(NEW.scheduled_for, 1, 10))
BEGIN SELECT raise(ABORT,
    'scheduled_for is not a time of 2020 to 2099: write UTC as YYYY-MM-DD HH:MM:SS'); END;
CREATE TRIGGER scheduled_for_normal_update AFTER UPDATE OF scheduled_for ON scheduled_messages
WHEN NEW.scheduled_for IS NOT datetime(NEW.scheduled_for, '+0 days')
BEGIN
    UPDATE scheduled_messages SET scheduled_for = datetime(NEW.scheduled_for, '+0 days') WHERE id = NEW.id;
END;
CREATE TRIGGER sent_at_checked_insert BEFORE INSERT ON scheduled_messages
WHEN NEW.sent_at IS NOT NULL AND (
    coalesce(datetime(NEW.sent_at, '+0 days') NOT BETWEEN '2020' AND '2100', 1)
    OR NEW.sent_at GLOB '????-??-??*'
    AND date(substr(NEW.sent_at, 1, 10), '+0 days') IS NOT substr(NEW.sent_at, 1, 10))
BEGIN SELECT raise(ABORT,
    'sent_at is not a time of 2020 to 2099: write UTC as YYYY-MM-DD HH:MM:SS'); END;
CREATE TRIGGER sent_at_normal_insert AFTER INSERT ON scheduled_messages
WHEN NEW.sent_at IS NOT datetime(NEW.sent_at, '+0 days')
BEGIN
    UPDATE scheduled_messages SET sent_at = datetime(NEW.sent_at, '+0 days') WHERE id = NEW.id;
END;
CREATE TRIGGER sent_at_checked_update BEFORE UPDATE OF sent_at ON scheduled_messages
WHEN NEW.sent_at IS NOT NULL AND (
    coalesce(datetime(NEW.sent_at, '+0 days') NOT BETWEEN '2020' AND '2100', 1)
    OR NEW.sent_at GLOB '????-??-??*'
    AND date(substr(NEW.sent_at, 1, 10), '+0 days') IS NOT substr(NEW.sent_at, 1, 10))
BEGIN SELECT raise(ABORT,
    'sent_at is not a time of 2020 to 2099: write UTC as YYYY-MM-DD HH:MM:SS'); END;
CREATE TRIGGER sent_at_normal_update AFTER UPDATE OF sent_at ON scheduled_messages
WHEN NEW.sent_at IS NOT datetime(NEW.sent_at, '+0 days')
BEGIN
    UPDATE scheduled_messages SET sent_at = datetime(NEW.sent_at, '+0 days') WHERE id = NEW.id;
END;
CREATE TRIGGER until_checked_insert BEFORE INSERT ON scheduled_messages
WHEN NEW.until IS NOT NULL AND (
    coalesce(datetime(NEW.until, '+0 days') NOT BETWEEN '2020' AND '2100', 1)
    OR NEW.until GLOB '????-??-??*'
    AND date(substr(NEW.until, 1, 10), '+0 days') IS NOT substr(NEW.until, 1, 10))
BEGIN SELECT raise(ABORT,
    'until is not a time of 2020 to 2099: write UTC as YYYY-MM-DD HH:MM:SS'); END;
CREATE TRIGGER until_normal_insert AFTER INSERT ON scheduled_messages
WHEN NEW.until IS NOT datetime(NEW.until, '+0 days')
BEGIN
    UPDATE scheduled_messages SET until = datetime(NEW.until, '+0 days') WHERE id = NEW.id;
END;
CREATE TRIGGER until_checked_update BEFORE UPDATE OF until ON scheduled_messages
WHEN NEW.until IS NOT NULL AND (
    coalesce(datetime(NEW.until, '+0 days') NOT BETWEEN '2020' AND '2100', 1)
    OR NEW.until GLOB '????-??-??*'
    AND date(substr(NEW.until, 1, 10), '+0 days') IS NOT substr(NEW.until, 1, 10))
BEGIN SELECT raise(ABORT,
    'until is not a time of 2020 to 2099: write UTC as YYYY-MM-DD HH:MM:SS'); END;
CREATE TRIGGER until_normal_update AFTER UPDATE OF until ON scheduled_messages
WHEN NEW.until IS NOT datetime(NEW.until, '+0 days')
BEGIN
    UPDATE scheduled_messages SET until = datetime(NEW.until, '+0 days') WHERE id = NEW.id;
END;
CREATE TRIGGER number_normal_insert AFTER INSERT ON scheduled_messages
WHEN NEW.phone_number NOT GLOB '+[1-9]*' AND replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', '') NOT GLOB '*[^0-9]*'
    AND (length(replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', '')) = 10 OR length(replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', '')) = 11 AND replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', '') GLOB '1*')
BEGIN
    UPDATE scheduled_messages SET phone_number = '+1' || substr(replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', ''), -10) WHERE id = NEW.id;
END;
CREATE TRIGGER number_normal_update AFTER UPDATE OF phone_number ON scheduled_messages
WHEN NEW.phone_number NOT GLOB '+[1-9]*' AND replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', '') NOT GLOB '*[^0-9]*'
    AND (length(replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', '')) = 10 OR length(replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', '')) = 11 AND replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', '') GLOB '1*')
BEGIN
    UPDATE scheduled_messages SET phone_number = '+1' || substr(replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', ''), -10) WHERE id = NEW.id;
END;
CREATE TRIGGER touched AFTER UPDATE OF phone_number, customer_name, message_content, scheduled_for,
    status, campaign_name, sent_at, error_message, held_because, anyway ON scheduled_messages
WHEN NEW.updated_at IS OLD.updated_at
BEGIN UPDATE scheduled_messages SET updated_at = datetime('now') WHERE id = NEW.id; END;
CREATE TRIGGER too_late AFTER UPDATE OF scheduled_for, until ON scheduled_messages
WHEN NEW.status = 'scheduled' AND datetime(NEW.scheduled_for) > datetime(NEW.until)
BEGIN
    UPDATE scheduled_messages SET status = 'cancelled', error_message = 'too late',
        updated_at = NEW.updated_at, actor = NEW.actor WHERE id = NEW.id;
END;
CREATE TRIGGER audited_insert AFTER INSERT ON scheduled_messages
BEGIN
    INSERT INTO events (at, actor, scheduled_message_id, event, detail)
    VALUES (NEW.created_at, coalesce(NEW.actor, 'sql'), NEW.id, 'added',
            NEW.status || ' for ' || datetime(NEW.scheduled_for));
    UPDATE scheduled_messages SET actor = NULL WHERE id = NEW.id AND actor IS NOT NULL;
END;
CREATE TRIGGER audited_update AFTER UPDATE OF status, scheduled_for, message_content, held_because,
    phone_number, anyway ON scheduled_messages
WHEN NEW.status IS NOT OLD.status OR datetime(NEW.scheduled_for) IS NOT datetime(OLD.scheduled_for)
    OR NEW.message_content IS NOT OLD.message_content
        AND (NEW.message_content <> '' OR NEW.actor IS NULL)  -- blanked: one event for all
    OR NEW.anyway IS NOT OLD.anyway OR NEW.held_because IS NOT OLD.held_because
    OR NEW.phone_number IS NOT OLD.phone_number
BEGIN
    INSERT INTO events (at, actor, scheduled_message_id, event, detail)
    SELECT CASE WHEN NEW.updated_at IS OLD.updated_at THEN datetime('now') ELSE NEW.updated_at END,
           coalesce(NEW.actor, 'sql'), NEW.id,
           CASE WHEN NEW.status IS NOT OLD.status THEN NEW.status
                WHEN NEW.held_because IS NOT OLD.held_because
                    THEN CASE WHEN NEW.held_because IS NULL THEN 'released' ELSE 'held' END
                WHEN datetime(NEW.scheduled_for) IS NOT datetime(OLD.scheduled_for) THEN 'moved'
                ELSE 'edited' END,
           trim(CASE WHEN NEW.status IS NOT OLD.status THEN 'was ' || OLD.status || ' ' ELSE '' END
                || CASE WHEN datetime(NEW.scheduled_for) IS NOT datetime(OLD.scheduled_for)
                        THEN 'from ' || datetime(OLD.scheduled_for)
                             || ' to ' || datetime(NEW.scheduled_for) || ' ' ELSE '' END
                || CASE WHEN NEW.message_content IS NOT OLD.message_content
                        THEN 'new text ' || CASE WHEN EXISTS (SELECT 1 FROM messages
                             WHERE scheduled_message_id = NEW.id AND status <> 'queued')
                             THEN '(too late: it was under way) ' ELSE '' END ELSE '' END
                || iif(NEW.phone_number IS NOT OLD.phone_number, 'new number ', '')
                || iif(NEW.anyway IS NOT OLD.anyway, 'anyway ', '')
                || coalesce(NEW.held_because, '')
                || CASE WHEN NEW.status IN ('failed', 'cancelled')
                        THEN coalesce(NEW.error_message, '') ELSE '' END);
END;
CREATE TRIGGER signature_moved AFTER UPDATE OF actor ON scheduled_messages
WHEN NEW.actor IS NOT NULL
BEGIN UPDATE scheduled_messages SET actor = NULL WHERE id = NEW.id; END;
CREATE TRIGGER audited_delete AFTER DELETE ON scheduled_messages
BEGIN
    INSERT INTO events (at, actor, scheduled_message_id, event)
    VALUES (datetime('now'), 'sql', OLD.id, 'deleted');
END;
CREATE TRIGGER opt_out_audited AFTER INSERT ON opt_outs
BEGIN
    INSERT INTO events (at, actor, event, detail)
    VALUES (NEW.at, coalesce(NEW.actor, 'sql'), 'opted out', NEW.phone_number || ': ' || NEW.tier
            || iif(NEW.reason = '', '', ', ' || NEW.reason));
    UPDATE opt_outs SET actor = NULL WHERE phone_number = NEW.phone_number AND actor IS NOT NULL;
END;
CREATE TRIGGER opt_out_amid_message AFTER INSERT ON opt_outs
BEGIN
    UPDATE scheduled_messages SET status = 'cancelled', error_message = 'the recipient said stop'
    WHERE phone_number = NEW.phone_number AND status = 'scheduled' AND id IN
        (SELECT scheduled_message_id FROM messages WHERE status IN ('queued', 'sending'));
END;
CREATE TRIGGER opt_out_removal_audited AFTER DELETE ON opt_outs
BEGIN
    INSERT INTO events (at, actor, event, detail)
    VALUES (iif(OLD.actor IS NULL, datetime('now'), OLD.at), coalesce(OLD.actor, 'sql'),
            'opt-out removed', OLD.phone_number || iif(OLD.actor IS NULL, '', ': ' || OLD.reason));
END;
CREATE TRIGGER cancelled_bubbles AFTER UPDATE OF status ON scheduled_messages
WHEN NEW.status = 'cancelled' AND OLD.status <> 'cancelled'
BEGIN
    UPDATE messages SET status = 'cancelled'
    WHERE scheduled_message_id = NEW.id AND (status = 'queued' OR status = 'sending' AND NOT EXISTS
        (SELECT 1 FROM segments WHERE message_id = messages.id AND status = 'sending'));
    UPDATE scheduled_messages SET error_message = (
        SELECT sum(status IN ('sent', 'sending')) || ' of ' || count(*) || ' bubbles were sent'
            || iif(NEW.error_message IS OLD.error_message, '', ': ' || NEW.error_message)
        FROM messages WHERE scheduled_message_id = NEW.id)
    WHERE id = NEW.id AND EXISTS (SELECT 1 FROM messages
        WHERE scheduled_message_id = NEW.id AND status IN ('sent', 'sending'));
END;
CREATE TRIGGER retried_bubbles AFTER UPDATE OF status ON scheduled_messages
WHEN NEW.status = 'scheduled' AND OLD.status <> 'scheduled'
BEGIN
    UPDATE messages SET status = 'queued', error_message = NULL
    WHERE scheduled_message_id = NEW.id AND status IN ('failed', 'cancelled');
    UPDATE scheduled_messages SET attempts = 0 WHERE id = NEW.id;
END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('scheduled_messages',5);
INSERT INTO "sqlite_sequence" VALUES('messages',40);
PRAGMA user_version=1;
COMMIT;
