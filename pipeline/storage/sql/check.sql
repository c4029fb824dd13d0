-- name: batch
select id, stream, status, accepted, quarantined, started_at, closed_at
from tidemark.batch where stream = %(stream)s and id = %(batch)s;

-- name: batches
select id, stream, status, accepted, quarantined, started_at, closed_at
from tidemark.batch where stream = %(stream)s order by id;

-- name: unchecked_batches
-- Closed batches that no check has decided on, with the images that the store still has; those that a check left pending
-- are among them.
select b.id, b.stream, b.status, count(*) as accepted, b.quarantined, b.started_at, b.closed_at
from tidemark.batch b
join tidemark.live_image i on i.batch_id = b.id
where b.stream = %(stream)s and b.status = 'closed'
  and not exists (
      select 1 from tidemark.drift_check c
      where c.stream = b.stream and c.batch_ids @> array[b.id] and c.decision <> 'pending'
  )
group by b.id
order by b.id;

-- name: batch_images
select i.id, i.key, i.sha256, i.label, i.split, i.batch_id, i.near_group, i.bytes
from tidemark.live_image i
where i.stream = %(stream)s and i.batch_id = any(%(batches)s)
order by i.id;

-- name: images_by_id
select i.id, i.key, i.sha256, i.label, i.split, i.batch_id, i.near_group, i.bytes
from tidemark.live_image i
where i.stream = %(stream)s and i.id = any(%(ids)s)
order by i.id;

-- name: insert_check
insert into tidemark.drift_check
    (id, stream, batch_ids, model_version, test, images, reference_images, statistic, threshold, p_value, alpha,
     decision, reasons, report_key, measured, run)
values
    (%(id)s, %(stream)s, %(batch_ids)s, %(model_version)s, %(test)s, %(images)s, %(reference_images)s,
     %(statistic)s, %(threshold)s, %(p_value)s, %(alpha)s, %(decision)s, %(reasons)s, %(report_key)s,
     %(measured)s, %(run)s)
on conflict (id) do nothing;

-- name: check
select id, stream, batch_ids, model_version, test, images, reference_images, statistic, threshold, p_value, alpha,
       decision, reasons, report_key, measured, run, created_at
from tidemark.drift_check where id = %(id)s;

-- name: checks
select id, stream, batch_ids, model_version, test, images, reference_images, statistic, threshold, p_value, alpha,
       decision, reasons, report_key, measured, run, created_at
from tidemark.drift_check
where %(stream)s::text is null or stream = %(stream)s
order by created_at desc, id desc
limit %(limit)s;

-- name: checks_of_batches
select id, stream, batch_ids, model_version, test, images, reference_images, statistic, threshold, p_value, alpha,
       decision, reasons, report_key, measured, run, created_at
from tidemark.drift_check
where stream = %(stream)s and batch_ids && %(batches)s::bigint[]
order by created_at, id;

-- name: earlier_checks
-- What the tests of one champion found on the batches before this one, newest first. Of checks of the same batch only the
-- last one counts: a batch that is checked twice is no second night.
select id, signal from (
    select distinct on (batch_ids[array_upper(batch_ids, 1)])
        id, batch_ids[array_upper(batch_ids, 1)] as last_batch,
        coalesce((measured->>'signal')::boolean, decision = 'alarm') as signal
    from tidemark.drift_check
    where stream = %(stream)s and model_version = %(version)s and p_value is not null
      and batch_ids[array_upper(batch_ids, 1)] < %(before)s
    order by batch_ids[array_upper(batch_ids, 1)], created_at desc, id desc
) tested
order by last_batch desc
limit %(limit)s;

-- name: checks_since_retraining
-- How many batches were tested since a retraining came to an end; null if there was none. The first model's training is no
-- retraining, and one that found nothing new to learn counts only as the answer to an alarm.
select (
    select count(distinct c.batch_ids[array_upper(c.batch_ids, 1)]) from tidemark.drift_check c
    where c.stream = %(stream)s and c.p_value is not null and c.created_at > r.finished_at
      and not c.batch_ids && %(batches)s::bigint[]
) as checks
from tidemark.retraining r
where r.stream = %(stream)s
  and (r.status in ('promoted', 'rejected') or (r.status = 'unchanged' and r.check_id is not null))
  and not exists (
      select 1 from tidemark.promotion p where p.retraining_id = r.id and p.previous_version is null
  )
order by r.finished_at desc
limit 1;
