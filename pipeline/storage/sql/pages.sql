-- name: standing
-- Where each of some streams stands: champion, newest check, newest retraining, what waits. One row for every name.
select s.stream, m.model_version as champion, p.done_at as champion_since, b.closed_at as ingested_at,
       c.id as check_id, c.decision, c.reasons, c.p_value, c.created_at as checked_at,
       c.model_version as checked_version, (c.measured #>> '{expected,accuracy}')::double precision as expected,
       c.measured ->> 'watched' as watched,
       r.id as retraining, r.status as retraining_status, r.model_version as retraining_version,
       r.check_id as retraining_check, r.finished_at as retraining_finished,
       (
           select count(*) from tidemark.batch w
           where w.stream = s.stream and w.status = 'closed' and w.accepted > 0
             and w.id not in (
                 select unnest(d.batch_ids) from tidemark.drift_check d
                 where d.stream = s.stream and d.decision <> 'pending'
             )
       ) as unchecked_batches
from unnest(%(streams)s::text[]) as s (stream)
left join tidemark.champion m on m.stream = s.stream
left join lateral (
    select done_at from tidemark.promotion
    where stream = s.stream and model_version = m.model_version and done_at is not null
    order by id desc limit 1
) p on true
left join lateral (
    select closed_at from tidemark.batch where stream = s.stream and status = 'closed' order by id desc limit 1
) b on true
left join lateral (
    select * from tidemark.drift_check where stream = s.stream order by created_at desc, id desc limit 1
) c on true
left join lateral (
    select * from tidemark.retraining where stream = s.stream order by id desc limit 1
) r on true
order by s.stream;

-- name: counts
-- What a stream has taken in so far, whether or not the store still has it; predictions are the champion's.
select
    (
        select coalesce(sum(accepted), 0) from tidemark.batch where stream = %(stream)s and status = 'closed'
    ) as images,
    (
        select count(*) from tidemark.prediction
        where stream = %(stream)s
          and model_version = (select model_version from tidemark.champion where stream = %(stream)s)
    ) as predictions,
    (select count(*) from tidemark.object where stream = %(stream)s and status = 'quarantined') as quarantined,
    (select count(*) from tidemark.drift_check where stream = %(stream)s) as checks;

-- name: newest_checks
-- For a small picture of how it went lately, oldest first.
select id, decision, statistic, threshold, created_at from (
    select id, decision, statistic, threshold, created_at from tidemark.drift_check
    where stream = %(stream)s order by created_at desc, id desc limit %(limit)s
) newest
order by created_at, id;

-- name: history
-- Checks by verdict and time, newest first, and how many there are in all.
select id, stream, batch_ids, model_version, test, images, statistic, threshold, p_value, alpha, decision, created_at,
       (measured #>> '{expected,accuracy}')::double precision as expected,
       (measured #>> '{measured,accuracy}')::double precision as measured,
       count(*) over () as total
from tidemark.drift_check
where stream = %(stream)s
  and (%(decision)s::text is null or decision = %(decision)s)
  and (%(since)s::timestamptz is null or created_at >= %(since)s)
  and (%(until)s::timestamptz is null or created_at < %(until)s)
order by created_at desc, id desc
limit %(limit)s offset %(offset)s;

-- name: changes_of_champion
-- Promotions and rollbacks of some days, oldest first.
select id, model_version, previous_version, kind, reason, done_at
from tidemark.promotion
where stream = %(stream)s and done_at is not null
  and (%(since)s::timestamptz is null or done_at >= %(since)s)
  and (%(until)s::timestamptz is null or done_at <= %(until)s)
order by id;

-- name: check_batches
-- The batches that a check looked at.
select id, started_at, closed_at, accepted, quarantined, run
from tidemark.batch where stream = %(stream)s and id = any(%(batches)s::bigint[]) order by id
limit %(limit)s;

-- name: check_neighbours
-- The checks right before and after one.
select
    (
        select id from tidemark.drift_check
        where stream = %(stream)s and (created_at, id) < (%(at)s::timestamptz, %(id)s) order by created_at desc, id desc
        limit 1
    ) as earlier,
    (
        select id from tidemark.drift_check
        where stream = %(stream)s and (created_at, id) > (%(at)s::timestamptz, %(id)s) order by created_at, id limit 1
    ) as later;

-- name: what_followed
-- Retrainings that a check asked for, with the change of champion that came of each.
select r.id, r.status, r.reason, r.model_version, r.started_at, r.finished_at, r.run, r.gate -> 'reasons' as reasons,
       p.done_at as promoted_at
from tidemark.retraining r
left join lateral (
    select done_at from tidemark.promotion where retraining_id = r.id and done_at is not null order by id limit 1
) p on true
where r.stream = %(stream)s and r.check_id = %(check)s
order by r.id;

-- name: run
-- What one Airflow run left in the catalogue; `prefix` is dag_id/run_id/.
select 'check' as kind, stream, id, created_at as at, decision as outcome, null::integer as version
from tidemark.drift_check where stream = %(stream)s and left(run, length(%(prefix)s)) = %(prefix)s
union all
select 'batch', stream, id::text, closed_at, accepted || ' accepted, ' || quarantined || ' in quarantine', null
from tidemark.batch
where stream = %(stream)s and status = 'closed' and left(run, length(%(prefix)s)) = %(prefix)s
union all
select 'retraining', stream, id::text, coalesce(finished_at, started_at), status, model_version
from tidemark.retraining where stream = %(stream)s and left(run, length(%(prefix)s)) = %(prefix)s
union all
select 'predictions', stream, sum(predictions)::text, max(finished_at), sum(failures) || ' could not be read',
       model_version
from tidemark.scored_shard where stream = %(stream)s and left(run, length(%(prefix)s)) = %(prefix)s
group by stream, model_version
order by at;

-- name: versions
-- Model versions with their figures, the newest first; class by class figures and confusion matrices stay behind, of a
-- thousand classes they are megabytes. The newest retraining that made the version speaks for it.
select v.model_version as version, v.id as retraining, v.reason, v.check_id, v.status, v.started_at, v.finished_at,
       v.run, v.mlflow_run_id, v.gate -> 'reasons' as reasons, v.gate -> 'approval' as approval,
       -- A holdout without images is null, from which nothing can be taken away.
       coalesce(nullif(v.evaluation #> '{challenger,new}', 'null'), '{}') - array['classes', 'confusion'] as new,
       coalesce(nullif(v.evaluation #> '{challenger,old}', 'null'), '{}') - array['classes', 'confusion'] as old,
       v.evaluation #> '{challenger,footprint}' as footprint,
       count(*) over () as total
from (
    select distinct on (model_version) *
    from tidemark.retraining
    where stream = %(stream)s and model_version is not null and status <> 'unchanged'
    order by model_version desc, id desc
) v
order by v.model_version desc
limit %(limit)s offset %(offset)s;

-- name: version
-- All that the catalogue has of one version.
select model_version as version, id as retraining, reason, check_id, status, started_at, finished_at, run, mlflow_run_id,
       evaluation, gate
from tidemark.retraining
where stream = %(stream)s and model_version = %(version)s and status <> 'unchanged'
order by id desc
limit 1;

-- name: classes_of_version
-- The classes that a version was judged on.
select distinct class ->> 'name' as name
from (
    select evaluation -> 'challenger' as figures from tidemark.retraining
    where stream = %(stream)s and model_version = %(version)s and status <> 'unchanged' order by id desc limit 1
) judged,
lateral (values ('new'), ('old')) as holdout (part),
lateral jsonb_path_query(judged.figures -> holdout.part, '$.classes[*]') as class
order by name;

-- name: quarantine
-- Quarantined keys, the newest first, and how many there are in all.
select key, reason_code, reason, bytes, batch_id, seen_at, count(*) over () as total
from tidemark.object
where stream = %(stream)s and status = 'quarantined' and (%(code)s::text is null or reason_code = %(code)s)
order by seen_at desc, key
limit %(limit)s offset %(offset)s;

-- name: still_queued
-- Of some images those that still wait for a label, and whether one of their near duplicates has one.
select i.id, i.near_group is not null and exists (
           select 1 from tidemark.image k
           where k.near_group = i.near_group and k.stream = i.stream and k.label is not null
       ) as alike
from tidemark.image i
where i.id = any(%(images)s::bigint[]) and i.label is null
  and exists (select 1 from tidemark.object o where o.image_id = i.id and o.status = 'accepted');

-- name: labelled_since
-- How many images have got their first label after an event.
select count(*) as images
from tidemark.label_event e
join tidemark.image i on i.id = e.image_id
join tidemark.batch b on b.id = i.batch_id and b.status = 'closed'
where e.stream = %(stream)s and e.id > %(event)s and e.previous is null;

-- name: known_key
-- What a key leads to now, with the image where it leads to one.
select o.key, o.status, o.reason_code, o.reason, o.bytes, o.etag, o.last_modified, o.seen_at, o.batch_id, i.id as image_id,
       i.sha256, i.label, i.split, i.width, i.height, i.format, i.brightness, i.contrast, i.sharpness, i.near_group,
       i.batch_id as image_batch,
       (select count(*) from tidemark.object other where other.image_id = i.id and other.status = 'accepted') as keys
from tidemark.object o
left join tidemark.image i on i.id = o.image_id
where o.stream = %(stream)s and o.key = %(key)s;

-- name: earlier_contents
-- What the key led to before its content changed, newest first.
select status, reason_code, reason, bytes, sha256, image_id, seen_at, replaced_at
from tidemark.object_history where stream = %(stream)s and key = %(key)s
order by id desc limit %(limit)s;

-- name: image_predictions
-- What each version says of an image, the newest version first.
select model_version, label, confidence, top_k, predicted_at
from tidemark.prediction where image_id = %(image)s
order by model_version desc limit %(limit)s;

-- name: image_failures
select model_version, reason, failed_at from tidemark.prediction_failure where image_id = %(image)s
order by model_version desc limit %(limit)s;

-- name: batch_checks
-- The checks that looked at a batch, newest first.
select id, decision, created_at, model_version from tidemark.drift_check
where stream = %(stream)s and batch_ids @> array[%(batch)s::bigint]
order by created_at desc, id desc limit %(limit)s;

-- name: queue_state
-- Changes whenever the labelling queue may: what came in, was checked, predicted or labelled last.
select
    (select model_version from tidemark.champion where stream = %(stream)s) as champion,
    (select max(id) from tidemark.batch where stream = %(stream)s and status = 'closed') as batch,
    (select max(created_at) from tidemark.drift_check where stream = %(stream)s) as checked,
    (select id from tidemark.scored_shard where stream = %(stream)s order by id desc limit 1) as scored,
    (select id from tidemark.label_event where stream = %(stream)s order by id desc limit 1) as labelled;

-- name: unlabelled
select count(*) as images from tidemark.image i
join tidemark.batch b on b.id = i.batch_id and b.status = 'closed'
where i.stream = %(stream)s and i.label is null;
