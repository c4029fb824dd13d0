-- name: labelled_images
select i.id, i.key, i.sha256, i.label, i.split, i.batch_id, i.near_group, i.bytes
from tidemark.live_image i
where i.stream = %(stream)s and i.label is not null
order by i.id;

-- name: new_labels
-- How many images of batches above one have a label that counts: that of a class of the stream, where it names some.
select count(*) as labelled
from tidemark.live_image i
where i.stream = %(stream)s and i.label is not null and i.batch_id > %(since)s
  and (%(classes)s::text[] is null or i.label = any(%(classes)s::text[]));

-- name: holdout_images
-- Labelled or not: a reference needs no labels. Of near duplicates one, which counts for all; rather a labelled one.
select * from (
    select distinct on (coalesce(i.near_group, i.id))
        i.id, i.key, i.sha256, i.label, i.split, i.batch_id, i.near_group, i.bytes
    from tidemark.live_image i
    where i.stream = %(stream)s and i.split = 'holdout' and i.batch_id >= %(since_batch)s
    order by coalesce(i.near_group, i.id), i.label is null, i.id desc
) different
order by id desc
limit %(limit)s;

-- name: last_drift_batch
-- Where the images last changed: the first batch of the unbroken run of checks by one champion that found drift, up to the
-- newest alarm. Those before the alarm were watched: they waited for a second finding, or came right after a retraining.
with tested as (
    select batch_ids[1] as batch, model_version, decision,
        coalesce((measured->>'signal')::boolean, decision = 'alarm') as signal
    from tidemark.drift_check
    where stream = %(stream)s and p_value is not null
), alarm as (
    select batch, model_version from tested where decision = 'alarm' order by batch desc limit 1
)
select coalesce(min(t.batch), 0) as batch
from tested t join alarm a on t.model_version = a.model_version and t.batch <= a.batch
where t.signal and not exists (
    select 1 from tested quiet
    where quiet.model_version = a.model_version and not quiet.signal and quiet.batch > t.batch and quiet.batch < a.batch
);

-- name: start_retraining
insert into tidemark.retraining (stream, reason, check_id, repeats, run)
values (%(stream)s, %(reason)s, %(check_id)s, %(repeats)s, %(run)s)
returning id;

-- name: note_waiting
-- Once for each alarm; what is new to the champion may have changed meanwhile, by a rollback.
with known as (
    update tidemark.retraining set new_since = %(new_since)s
    where stream = %(stream)s and check_id = %(check_id)s and status = 'waiting for labels' and finished_at is null
    returning id
)
insert into tidemark.retraining (stream, reason, check_id, status, new_since, run)
select %(stream)s, %(reason)s, %(check_id)s, 'waiting for labels', %(new_since)s, %(run)s
where not exists (select 1 from known);

-- name: await_approval
update tidemark.retraining set status = 'awaiting approval' where id = %(id)s;

-- name: end_waiting
update tidemark.retraining w set finished_at = now()
from tidemark.retraining r
where r.id = %(id)s and r.status <> 'failed' and r.repeats is null
  and w.stream = r.stream and w.id < r.id and w.status = 'waiting for labels' and w.finished_at is null;

-- name: waiting
select r.check_id, (
    select count(*) from tidemark.live_image i
    where i.stream = r.stream and i.label is not null and i.batch_id > r.new_since
) as labelled
from tidemark.retraining r
where r.stream = %(stream)s and r.status = 'waiting for labels' and r.finished_at is null
order by r.id desc limit 1;

-- name: running_retrainings
-- Whoever holds the stream's lock knows that a row still `running` belongs to a process that died.
select id, mlflow_run_id, model_version from tidemark.retraining
where stream = %(stream)s and status = 'running' order by id;

-- name: trace_retraining
update tidemark.retraining set
    snapshot_key = coalesce(%(snapshot_key)s, snapshot_key),
    mlflow_run_id = coalesce(%(mlflow_run_id)s, mlflow_run_id),
    model_version = coalesce(%(model_version)s, model_version),
    evaluation = coalesce(%(evaluation)s, evaluation),
    gate = coalesce(%(gate)s, gate)
where id = %(id)s;

-- name: finish_retraining
update tidemark.retraining set status = %(status)s, finished_at = now() where id = %(id)s;

-- name: retrainings
select id, stream, reason, check_id, status, snapshot_key, mlflow_run_id, model_version, evaluation, gate,
       started_at, finished_at
from tidemark.retraining
where stream = %(stream)s and (%(status)s::text is null or status = %(status)s)
  and (%(version)s::integer is null or model_version = %(version)s)
order by id;

-- name: unanswered_alarm
-- The newest alarm, unless a retraining that began after it has come to an end; one that repeats an earlier run on its
-- images is no answer. One that waits for an approval is.
select c.id, c.batch_ids, c.p_value
from tidemark.drift_check c
where c.stream = %(stream)s and c.decision = 'alarm'
  and not exists (
      select 1 from tidemark.retraining r
      where r.stream = c.stream and r.status in ('promoted', 'rejected', 'unchanged', 'awaiting approval')
        and r.repeats is null
        and (r.check_id = c.id or r.started_at >= c.created_at)
  )
order by c.created_at desc, c.id desc limit 1;

-- name: intend_promotion
insert into tidemark.promotion (stream, model_version, previous_version, kind, reason, retraining_id)
values (%(stream)s, %(version)s, %(previous)s, %(kind)s, %(reason)s, %(retraining)s)
returning id;

-- name: complete_promotion
update tidemark.promotion set done_at = coalesce(done_at, now()) where id = %(id)s;

-- name: settle_promotions
-- After a kill: the registry says who is in charge; the newest intention for that version was carried out.
update tidemark.promotion set done_at = now()
where done_at is null and id = (
    select max(id) from tidemark.promotion where stream = %(stream)s
) and model_version = %(champion)s;

-- name: promotions
select id, model_version, previous_version, kind, reason, retraining_id, done_at
from tidemark.promotion where stream = %(stream)s and done_at is not null order by id;
