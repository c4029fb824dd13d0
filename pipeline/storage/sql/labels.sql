-- name: label_files
select id, stream, source, origin, etag, bytes, stated_at, rows_read, refused, unreadable, read_at
from tidemark.label_file where stream = %(stream)s order by stated_at, id;

-- name: imported
select id, origin, read_at from tidemark.label_file
where stream = %(stream)s and source = 'import' and etag = %(etag)s order by id limit 1;

-- name: upsert_label_file
insert into tidemark.label_file (stream, source, origin, etag, bytes, stated_at, rows_read, refused, unreadable)
values (%(stream)s, %(source)s, %(origin)s, %(etag)s, %(bytes)s, coalesce(%(stated_at)s, now()), %(rows_read)s,
        %(refused)s, %(unreadable)s)
on conflict (stream, source, origin) do update set
    etag = excluded.etag, bytes = excluded.bytes, stated_at = excluded.stated_at, rows_read = excluded.rows_read,
    refused = excluded.refused, unreadable = excluded.unreadable, read_at = now()
returning id;

-- name: make_staging
create temporary table label_row (
    line integer not null, by_name boolean not null, target text not null, label text not null, author text
) on commit drop;

-- name: copy_staging
copy label_row (line, by_name, target, label, author) from stdin;

-- name: set_contradictions_aside
-- Rows that give one key several labels go out of the staging table: they are no claims, but problems.
create temporary table label_contradiction on commit drop as
select r.line, r.by_name, r.target, r.label, c.labels
from label_row r
join (
    select by_name, target, array_agg(distinct label) as labels
    from label_row group by by_name, target having count(distinct label) > 1
) c using (by_name, target);
delete from label_row r using label_contradiction c where r.by_name = c.by_name and r.target = c.target;
-- Whatever PostgreSQL guesses of the claims that it is compared with, an index keeps that from being each with each.
create index on label_row (target, by_name);
analyze label_row;

-- name: contradictions
select line, target, label, array_remove(labels, label) as others from label_contradiction order by line limit %(limit)s;

-- name: count_contradictions
select count(*) from label_contradiction;

-- name: forget_problems
delete from tidemark.label_problem where file_id = %(file_id)s;

-- name: copy_problems
copy tidemark.label_problem (file_id, line, code, target, label, detail) from stdin;

-- name: count_refused
update tidemark.label_file set refused = refused + %(more)s where id = %(file_id)s;

-- name: upsert_claims
-- What the file said before already is no new statement, whenever the file was written.
insert into tidemark.label_claim as c (file_id, by_name, target, label, author, line, stated_at)
select %(file_id)s, r.by_name, r.target, r.label, r.author, r.line, f.stated_at
from (select distinct on (by_name, target) * from label_row order by by_name, target, line) r
join tidemark.label_file f on f.id = %(file_id)s
order by r.line
on conflict (file_id, by_name, target) do update set
    label = excluded.label,
    author = excluded.author,
    line = excluded.line,
    standing = true,
    stated_at = case when c.label = excluded.label and c.standing then c.stated_at else excluded.stated_at end,
    statement = case when c.label = excluded.label and c.standing then c.statement else excluded.statement end,
    image_id = case when c.label = excluded.label and c.standing then c.image_id end
where (c.label, c.author, c.line, c.standing) is distinct from (excluded.label, excluded.author, excluded.line, true);

-- name: withdraw_claims
-- The file does not say so any more; what was applied stays.
update tidemark.label_claim c set standing = false, problem = null, detail = null
where c.file_id = %(file_id)s and c.standing
  and not exists (select 1 from label_row r where r.by_name = c.by_name and r.target = c.target);

-- name: reopen_claims
-- A key whose content changed in the open batch: what the labels files say of the key is true of the new image too. An
-- import was made for the images that were there, and stays with them.
update tidemark.label_claim c set image_id = null
from tidemark.batch b
join tidemark.object o on o.batch_id = b.id and o.stream = b.stream and o.image_id is not null
cross join lateral (
    values (false, o.key), (false, substring(o.key from length(%(prefix)s) + 1)), (true, substring(o.key from '[^/]*$'))
) said (by_name, target)
join tidemark.label_file f on f.stream = b.stream and f.source = 'file'
where b.stream = %(stream)s and b.status = 'open'
  and exists (
      select 1 from tidemark.object_history h
      where h.stream = o.stream and h.key = o.key and h.image_id <> o.image_id
  )
  and c.file_id = f.id and c.by_name = said.by_name and c.target = said.target
  and c.standing and c.image_id <> o.image_id;

-- name: make_candidates
-- Claims that wait, copied and counted: with guesses instead of counts, PostgreSQL would compare each with each.
create temporary table label_waiting on commit drop as
select c.file_id, c.by_name, c.target, c.label, c.stated_at, c.statement, c.line, c.author
from tidemark.label_file f
join tidemark.label_claim c on c.file_id = f.id and c.image_id is null and c.standing
where f.stream = %(stream)s and (%(file_id)s::bigint is null or f.id = %(file_id)s);
analyze label_waiting;
create temporary table label_candidate (
    file_id bigint not null, by_name boolean not null, target text not null, label text not null,
    stated_at timestamptz not null, statement bigint not null, line integer not null, author text,
    image_id bigint, problem text, detail text
) on commit drop;

-- name: candidates_by_key
-- A key is a whole one where there is such an object, else relative to the prefix.
insert into label_candidate
select c.file_id, c.by_name, c.target, c.label, c.stated_at, c.statement, c.line, c.author, o.image_id,
       case when o.status = 'quarantined' then 'quarantined' when o.image_id is null then 'unknown_key' end,
       case when o.status = 'quarantined' then o.reason_code end
from label_waiting c
left join lateral (
    select o.image_id, o.status, o.reason_code from tidemark.object o
    where o.stream = %(stream)s and o.key in (c.target, %(prefix)s || c.target)
      and (o.image_id is not null or o.status = 'quarantined')
    order by o.key <> c.target
    limit 1
) o on true
where not c.by_name;

-- name: candidates_by_name
create temporary table label_name on commit drop as
select substring(o.key from '[^/]*$') as name, o.image_id, o.reason_code
from tidemark.object o
where o.stream = %(stream)s and o.status <> 'gone' and exists (select 1 from label_waiting where by_name);
analyze label_name;
insert into label_candidate
select c.file_id, c.by_name, c.target, c.label, c.stated_at, c.statement, c.line, c.author,
       case when n.contents = 1 then n.image_id end,
       case
           when n.name is null then 'unknown_key'
           when n.contents > 1 then 'ambiguous'
           when n.image_id is null then 'quarantined'
       end,
       case when n.contents > 1 then n.files::text when n.image_id is null then n.reason_code end
from label_waiting c
left join (
    select name, count(*) as files, min(image_id) as image_id, min(reason_code) as reason_code,
           count(distinct image_id) + count(*) filter (where image_id is null) as contents
    from label_name group by name
) n on n.name = c.target
where c.by_name;

-- name: refuse_unknown_classes
update label_candidate set problem = 'unknown_class', detail = null
where %(classes)s::text[] is not null and label <> all(%(classes)s::text[]);

-- name: analyse_candidates
analyze label_candidate;

-- name: refuse_conflicts
-- Two keys of the same content with different labels in one file.
update label_candidate c set
    problem = 'conflict',
    detail = (select string_agg(quote_literal(other), ', ' order by other) from unnest(x.labels) other
              where other <> c.label)
from (
    select file_id, image_id, array_agg(label) as labels
    from (
        select file_id, image_id, label from label_candidate where problem is null
        union
        select k.file_id, k.image_id, k.label
        from (select distinct file_id, image_id from label_candidate where problem is null) d
        join tidemark.label_claim k on k.file_id = d.file_id and k.image_id = d.image_id and k.standing
    ) said
    group by file_id, image_id having count(*) > 1
) x
where c.problem is null and c.file_id = x.file_id and c.image_id = x.image_id;

-- name: note_problems
update tidemark.label_claim c set problem = d.problem, detail = d.detail
from label_candidate d
where d.problem is not null
  and c.file_id = d.file_id and c.by_name = d.by_name and c.target = d.target
  and (c.problem, c.detail) is distinct from (d.problem, d.detail);

-- name: settle_claims
update tidemark.label_claim c set image_id = d.image_id, problem = null, detail = null
from label_candidate d
where d.problem is null and c.file_id = d.file_id and c.by_name = d.by_name and c.target = d.target;

-- name: newest_claims
-- The newest statement on each image, copied and counted: where a labels file was written anew, PostgreSQL knows nothing
-- of its claims yet, would guess one row for a join with them, and compare each with each.
create temporary table label_newest on commit drop as
select distinct on (d.image_id) d.image_id, d.label, d.stated_at, d.statement, d.line, d.author, f.source, f.origin
from label_candidate d
join tidemark.label_file f on f.id = d.file_id
where d.problem is null
order by d.image_id, d.stated_at desc, d.statement desc;
analyze label_newest;

-- name: label_images
-- The newest statement on each image, unless the image's label rests on a newer one already.
with standing as (
    insert into tidemark.label_standing as s (image_id, stream, stated_at, statement)
    select image_id, %(stream)s, stated_at, statement from label_newest
    on conflict (image_id) do update set stated_at = excluded.stated_at, statement = excluded.statement
    where (excluded.stated_at, excluded.statement) > (s.stated_at, s.statement)
    returning image_id
), changed as (
    select n.*, i.label as previous
    from label_newest n
    join standing using (image_id)
    join tidemark.image i on i.id = n.image_id
    where i.label is distinct from n.label
), noted as (
    insert into tidemark.label_event (stream, image_id, label, previous, source, origin, line, author)
    select %(stream)s, image_id, label, previous, source, origin, line, author from changed order by statement
)
update tidemark.image i set label = changed.label from changed where i.id = changed.image_id;

-- name: problems
-- What is wrong in itself, and what waits or is refused, by file and line.
select f.source, f.origin, p.line, p.code, p.target, p.label, p.detail
from tidemark.label_file f
join (
    select file_id, line, code, target, label, detail from tidemark.label_problem
    union all
    select file_id, line, problem, target, label, detail from tidemark.label_claim
    where image_id is null and standing and problem is not null
) p on p.file_id = f.id
where f.stream = %(stream)s and (%(file_id)s::bigint is null or f.id = %(file_id)s)
order by f.id, p.line, p.code
limit %(limit)s;

-- name: count_problems
select f.id, f.refused + case when f.unreadable is null then 0 else 1 end + coalesce(c.open, 0) as problems,
       coalesce(c.waiting, 0) as waiting
from tidemark.label_file f
left join (
    select c.file_id, count(*) as open, count(*) filter (where c.problem in ('unknown_key', 'quarantined')) as waiting
    from tidemark.label_claim c
    join tidemark.label_file f on f.id = c.file_id and f.stream = %(stream)s
    where c.image_id is null and c.standing and c.problem is not null
    group by c.file_id
) c on c.file_id = f.id
where f.stream = %(stream)s and (%(file_id)s::bigint is null or f.id = %(file_id)s)
order by f.id;

-- name: counts_by_label
select i.label, count(*) as images
from tidemark.image i
join tidemark.batch b on b.id = i.batch_id and b.status = 'closed'
where i.stream = %(stream)s
  and exists (select 1 from tidemark.object o where o.image_id = i.id and o.status = 'accepted')
group by i.label
order by count(*) desc, i.label;

-- name: events_by_source
select source, count(*) as events, count(previous) as corrections
from tidemark.label_event where stream = %(stream)s group by source order by source;

-- name: label_history
-- Who labelled what a key leads to, and what it led to before, oldest first.
select e.label, e.previous, e.source, e.origin, e.line, e.author, e.labelled_at, i.sha256
from tidemark.label_event e
join tidemark.image i on i.id = e.image_id
where e.stream = %(stream)s and e.image_id in (
    select image_id from tidemark.object where stream = %(stream)s and key = %(key)s
    union
    select image_id from tidemark.object_history where stream = %(stream)s and key = %(key)s
)
order by e.id;

-- name: known_key
select count(*) from tidemark.object where stream = %(stream)s and key = %(key)s;

-- name: known_classes
-- Every label there is, and every class that the version has predicted.
select distinct label from tidemark.image where stream = %(stream)s and label is not null
union
select distinct label from tidemark.prediction where stream = %(stream)s and model_version = %(version)s
order by 1;

-- name: labelling_queue
-- Unlabelled images in the order in which a label is worth most: what drifted before the rest; in each of the two, the
-- first of each group of near duplicates before any second one (`turn`; a label in the group counts as its first); then
-- the predicted classes take turns, each with its least certain image. Between equals the content's hash decides, as a
-- number: sorting tens of thousands of them as text takes several times as long.
with decided as (
    -- The newest decision on each batch, for all at once: looked up batch by batch, each would read half the history.
    select distinct on (batch) batch, decision in ('alarm', 'watch') as drifted
    from (
        select unnest(batch_ids) as batch, decision, created_at, id
        from tidemark.drift_check where stream = %(stream)s and decision <> 'pending'
    ) checked
    order by batch, created_at desc, id desc
), open_images as (
    select i.id, ('x' || left(i.sha256, 15))::bit(60)::bigint as lot, i.batch_id, coalesce(i.near_group, i.id) as kin,
           coalesce(d.drifted, false) as drifted, p.label as predicted, p.confidence
    from tidemark.image i
    join tidemark.batch b on b.id = i.batch_id and b.stream = i.stream and b.status = 'closed'
    left join decided d on d.batch = i.batch_id
    left join tidemark.prediction p
        on p.image_id = i.id and p.model_version = %(version)s and p.stream = %(stream)s
    where i.stream = %(stream)s and i.label is null
      and exists (select 1 from tidemark.object o where o.image_id = i.id and o.status = 'accepted')
), labelled_kin as (
    select distinct near_group as kin from tidemark.image
    where stream = %(stream)s and label is not null and near_group is not null
), by_kin as (
    select o.*, row_number() over (
        partition by o.kin order by o.drifted desc, o.confidence nulls last, o.lot
    ) + (k.kin is not null)::integer as turn
    from open_images o
    left join labelled_kin k using (kin)
), by_class as (
    select k.*, row_number() over (
        partition by k.turn, k.drifted, k.predicted order by k.confidence, k.lot
    ) as place
    from by_kin k
), chosen as (
    select *, row_number() over (order by drifted desc, turn, place, confidence nulls last, lot) as position
    from by_class
    where place <= %(limit)s -- as many come before any other
    order by position
    limit %(limit)s
)
select c.id, o.key, c.batch_id, c.drifted, c.predicted, c.confidence
from chosen c
join lateral (
    select key from tidemark.object where image_id = c.id and status = 'accepted' order by key limit 1
) o on true
order by c.position;
