-- name: news
-- What happened to a stream since a time, oldest first, and has no message yet.
select 'check' as kind, c.decision as status, c.id as about, c.created_at as at
from tidemark.drift_check c
where c.stream = %(stream)s and c.created_at >= %(since)s and c.decision in ('alarm', 'watch')
  and not exists (select 1 from tidemark.message m where m.stream = c.stream and m.about = 'check ' || c.id)
union all
select 'retraining', r.status, r.id::text, coalesce(r.finished_at, r.started_at)
from tidemark.retraining r
where r.stream = %(stream)s and coalesce(r.finished_at, r.started_at) >= %(since)s
  and r.status in ('promoted', 'rejected', 'waiting for labels', 'awaiting approval')
  and not exists (
      select 1 from tidemark.message m
      where m.stream = r.stream and m.about = 'retraining ' || r.id || ' ' || r.status
  )
order by at, about;

-- name: first_message
select min(created_at) as at from tidemark.message where stream = %(stream)s;

-- name: add_message
-- What is known already stays as it was said first. It is for the channels of this moment: one that is added later does
-- not begin with old news.
with added as (
    insert into tidemark.message (stream, event, about, title, sentences, links, happened_at)
    values (%(stream)s, %(event)s, %(about)s, %(title)s, %(sentences)s, %(links)s, %(at)s)
    on conflict (stream, about) do nothing
    returning id
)
insert into tidemark.delivery (message_id, channel, tries)
select added.id, channel, 0 from added cross join unnest(%(channels)s::text[]) as named (channel);

-- name: undelivered
-- Messages of the last days that some of these channels have not carried yet, oldest first.
select m.id, m.stream, m.event, m.about, m.title, m.sentences, m.links, m.happened_at as at, d.channel, d.tries
from tidemark.message m
join tidemark.delivery d on d.message_id = m.id
where m.stream = %(stream)s and m.created_at >= %(since)s and d.delivered_at is null
  and d.channel = any(%(channels)s::text[])
order by m.id, d.channel;

-- name: note_refusal
-- Somebody whom a channel has left out: a channel of its own from now on.
insert into tidemark.delivery (message_id, channel, tries, error)
values (%(message)s, %(channel)s, 1, %(error)s)
on conflict (message_id, channel) do nothing;

-- name: note_delivery
update tidemark.delivery set
    tries = tries + 1,
    delivered_at = coalesce(delivered_at, case when %(error)s::text is null then now() end),
    error = %(error)s
where message_id = %(message)s and channel = %(channel)s;
