-- name: plan_shards
-- Ranges of image ids, each with at most `size` images that the version has not predicted; larger ones where there would
-- be more than `most` of them.
select min(id) as first, max(id) as last, count(*) as images
from (
    select id, (row_number() over (order by id) - 1)
               / greatest(%(size)s, (count(*) over () + %(most)s - 1) / %(most)s) as shard
    from (
        select i.id
        from tidemark.live_image i
        left join tidemark.prediction p on p.image_id = i.id and p.model_version = %(version)s
        where i.stream = %(stream)s and p.image_id is null
        order by i.id
        limit %(limit)s
    ) open_images
) numbered
group by shard
order by shard;

-- name: shard_images
select i.id, i.key, i.sha256, i.label, i.split, i.batch_id, i.near_group, i.bytes
from tidemark.live_image i
left join tidemark.prediction p on p.image_id = i.id and p.model_version = %(version)s
where i.stream = %(stream)s and i.id between %(first)s and %(last)s and p.image_id is null
  and not exists (
      select 1 from tidemark.prediction_failure f
      where f.image_id = i.id and f.model_version = %(version)s and f.failed_at >= %(since)s
  )
order by i.id;

-- name: open_cells
-- Where the images lie that the version has neither predicted nor failed on since a time.
select distinct i.id / %(cell)s as cell
from tidemark.live_image i
left join tidemark.prediction p on p.image_id = i.id and p.model_version = %(version)s
where i.stream = %(stream)s and i.id between %(first)s and %(last)s and p.image_id is null
  and not exists (
      select 1 from tidemark.prediction_failure f
      where f.image_id = i.id and f.model_version = %(version)s and f.failed_at >= %(since)s
  )
order by cell;

-- name: claim
select pg_try_advisory_lock(hashtextextended(%(lock)s, 0)) as claimed;

-- name: release
select pg_advisory_unlock(hashtextextended(%(lock)s, 0)) as released;

-- name: claim_shared
select pg_try_advisory_lock_shared(hashtextextended(%(lock)s, 0)) as claimed;

-- name: release_shared
select pg_advisory_unlock_shared(hashtextextended(%(lock)s, 0)) as released;

-- name: now
select now() as now;

-- name: plan_time
-- A row carries the time at which its transaction began; backend_xid is of those that write.
select least(now(), min(xact_start)) as planned_at
from pg_stat_activity
where usename = current_user and datname = current_database() and backend_xid is not null;

-- name: speed
-- Images a second of the newest shards; those of a few images say little but how long a start takes.
select sum(predictions + failures) / sum(seconds) as speed
from (
    select predictions, failures, seconds
    from tidemark.scored_shard
    where stream = %(stream)s and predictions + failures >= %(least)s
    order by id desc
    limit 20
) newest;

-- name: insert_shard
insert into tidemark.scored_shard (stream, model_version, first_id, last_id, predictions, failures, seconds, run)
values (%(stream)s, %(version)s, %(first)s, %(last)s, %(predictions)s, %(failures)s, %(seconds)s, %(run)s);

-- name: checks_to_use
-- Checks by a version with an image that it has not predicted yet, oldest first.
select c.id, c.batch_ids
from tidemark.drift_check c
where c.stream = %(stream)s and c.model_version = %(version)s
  and exists (
      select 1
      from tidemark.live_image i
      left join tidemark.prediction p on p.image_id = i.id and p.model_version = %(version)s
      where i.batch_id = any(c.batch_ids) and p.image_id is null
  )
order by c.created_at, c.id;

-- name: noted_champion
select model_version from tidemark.champion where stream = %(stream)s;

-- name: make_staging
create temporary table if not exists prediction_staging (
    image_id bigint, label text, confidence real, top_k jsonb
) on commit delete rows;

-- name: copy_predictions
copy prediction_staging (image_id, label, confidence, top_k) from stdin;

-- name: upsert_predictions
-- A version's answer on an image never changes: the first row stays.
insert into tidemark.prediction (image_id, model_version, stream, label, confidence, top_k)
select image_id, %(version)s, %(stream)s, label, confidence, top_k from prediction_staging
on conflict (image_id, model_version) do nothing;

-- name: forgive_failures
delete from tidemark.prediction_failure f using prediction_staging s
where f.image_id = s.image_id and f.model_version = %(version)s;

-- name: upsert_failure
insert into tidemark.prediction_failure (image_id, model_version, stream, reason)
select %(image_id)s, %(version)s, %(stream)s, %(reason)s
where not exists (
    select 1 from tidemark.prediction where image_id = %(image_id)s and model_version = %(version)s
)
on conflict (image_id, model_version) do update set reason = excluded.reason, failed_at = now();

-- name: newest_image
select coalesce(max(id), 0) as id from tidemark.live_image where stream = %(stream)s;

-- name: completeness
-- Images up to one id: those that came in later are the next run's, as are old ones that have come back since the plan.
select count(*) filter (where not back) as images,
       count(*) filter (where predicted) as predictions,
       count(*) filter (where failed and not predicted) as failures,
       count(*) filter (where not (predicted or failed or back)) as missing,
       count(*) filter (where back) as back
from (
    select p.image_id is not null as predicted, f.image_id is not null as failed,
           p.image_id is null and f.image_id is null and not exists (
               select 1 from tidemark.object o
               where o.image_id = i.id and o.status = 'accepted' and o.seen_at <= %(planned_at)s
           ) as back
    from tidemark.live_image i
    left join tidemark.prediction p on p.image_id = i.id and p.model_version = %(version)s
    left join tidemark.prediction_failure f on f.image_id = i.id and f.model_version = %(version)s
    where i.stream = %(stream)s and i.id <= %(up_to)s
) due;

-- name: missing_keys
select i.key
from tidemark.live_image i
where i.stream = %(stream)s and i.id <= %(up_to)s
  and not exists (select 1 from tidemark.prediction p where p.image_id = i.id and p.model_version = %(version)s)
  and not exists (select 1 from tidemark.prediction_failure f where f.image_id = i.id and f.model_version = %(version)s)
  and exists (
      select 1 from tidemark.object o
      where o.image_id = i.id and o.status = 'accepted' and o.seen_at <= %(planned_at)s
  )
order by i.id
limit 5;

-- name: predictions_of_batch
select i.id, i.label as truth, i.split, p.label
from tidemark.image i
left join tidemark.prediction p on p.image_id = i.id and p.model_version = %(version)s
where i.stream = %(stream)s and i.batch_id = %(batch)s
order by i.id;

-- name: note_champion
insert into tidemark.champion as c (stream, model_version)
values (%(stream)s, %(version)s)
on conflict (stream) do update set model_version = excluded.model_version, noted_at = now()
where c.model_version <> excluded.model_version;

-- name: note_no_champion
delete from tidemark.champion where stream = %(stream)s;
