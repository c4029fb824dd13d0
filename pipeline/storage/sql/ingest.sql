-- name: open_batch
insert into tidemark.batch (stream, run) values (%(stream)s, %(run)s)
on conflict (stream) where status = 'open' do update set run = excluded.run
returning id;

-- name: open_batch_id
select id from tidemark.batch where stream = %(stream)s and status = 'open';

-- name: last_listed
-- When this prefix was last listed to its end, and what time it is there.
select now() as now,
       (select listed_at from tidemark.listing where stream = %(stream)s and prefix = %(prefix)s) as listed_at;

-- name: note_listed
insert into tidemark.listing (stream, prefix, listed_at) values (%(stream)s, %(prefix)s, %(listed_at)s)
on conflict (stream) do update set prefix = excluded.prefix, listed_at = excluded.listed_at;

-- name: make_listing
create temporary table if not exists listing (
    key text primary key, etag text not null, bytes bigint not null, last_modified timestamptz not null
) on commit preserve rows;
truncate listing;

-- name: analyse_listing
analyze listing;

-- name: copy_listing
copy listing (key, etag, bytes, last_modified) from stdin;

-- name: make_found
-- What the store has and the catalogue has not, or has with another content, and what is to be tried again.
create temporary table if not exists found (
    key text primary key, etag text not null, bytes bigint not null, last_modified timestamptz not null,
    again boolean not null
) on commit preserve rows;
truncate found;

-- name: fill_found
-- `unhashed`: also what was taken in before images got perceptual hashes.
insert into found
select l.key, l.etag, l.bytes, l.last_modified, coalesce(o.retry, false)
from listing l
left join tidemark.object o on o.stream = %(stream)s and o.key = l.key
left join tidemark.image i on %(unhashed)s and i.id = o.image_id and i.phash is null
where o.key is null or o.etag <> l.etag or o.bytes <> l.bytes or o.status = 'gone' or o.retry or i.id is not null
union all
select o.key, o.etag, o.bytes, o.last_modified, true
from tidemark.object o
where o.stream = %(stream)s and o.retry and o.status <> 'gone'
  and not exists (select 1 from listing l where l.key = o.key);

-- name: count_found
select count(*) from found;

-- name: found_objects
-- What failed before comes last, so that a limit cannot be used up by it.
select key, etag, bytes, last_modified from found order by again, key limit %(limit)s;

-- name: mark_gone
-- Keys that the catalogue knows and the listing of their prefix did not show. What they led to keeps its predictions.
update tidemark.object o set status = 'gone', retry = false, seen_at = now()
where o.stream = %(stream)s and o.status <> 'gone'
  and exists (select 1 from unnest(%(prefixes)s::text[]) prefix where starts_with(o.key, prefix))
  and not exists (select 1 from listing l where l.key = o.key);

-- name: mark_vanished
-- Keys that were known and turned out to be gone when they were to be read.
update tidemark.object set status = 'gone', retry = false, seen_at = now()
where stream = %(stream)s and status <> 'gone' and key = any(%(keys)s);

-- name: moved_images
-- Images whose label was given by a folder that has lost them, with a key that still leads to them.
select i.id, i.label, min(live.key) as key
from tidemark.object lost
join tidemark.image i on i.id = lost.image_id
join lateral (
    select source, origin from tidemark.label_event where image_id = i.id order by id desc limit 1
) newest on newest.source = 'folder' and newest.origin = lost.key
join tidemark.object live on live.image_id = i.id and live.status = 'accepted'
where lost.stream = %(stream)s and lost.status = 'gone'
group by i.id, i.label
order by i.id;

-- name: relabel
with said as (
    select * from unnest(%(ids)s::bigint[], %(labels)s::text[], %(keys)s::text[]) said (id, label, key)
), noted as (
    insert into tidemark.label_event (stream, image_id, label, previous, source, origin)
    select %(stream)s, i.id, said.label, i.label, 'folder', said.key
    from said join tidemark.image i on i.id = said.id order by i.id
)
update tidemark.image i set label = said.label from said where i.id = said.id;

-- name: largest_group
select count(*) as images,
       (select count(*) from tidemark.image where stream = %(stream)s) as of_images
from tidemark.image where stream = %(stream)s and near_group is not null
group by near_group order by count(*) desc limit 1;

-- name: count_listing
select count(*) from listing;

-- name: make_staging
create temporary table if not exists intake_staging (
    position integer not null, key text primary key, etag text not null, bytes bigint not null,
    last_modified timestamptz not null, status text not null, reason_code text, reason text, sha256 text, split text,
    label text, width integer, height integer, format text, brightness real, contrast real, sharpness real,
    colourfulness real, entropy real, phash bit(64)
) on commit delete rows;

-- name: copy_staging
copy intake_staging from stdin;

-- name: keep_history
-- What a key led to before, where that has changed.
insert into tidemark.object_history
    (stream, key, etag, bytes, last_modified, status, reason_code, reason, sha256, image_id, batch_id, seen_at)
select o.stream, o.key, o.etag, o.bytes, o.last_modified, o.status, o.reason_code, o.reason, o.sha256, o.image_id,
       o.batch_id, o.seen_at
from tidemark.object o
join intake_staging s on s.key = o.key
where o.stream = %(stream)s
  and (o.sha256, o.status, o.reason_code) is distinct from (s.sha256, s.status, s.reason_code);

-- name: insert_images
-- Content the catalogue has already keeps its first batch, split and label; what was not measured then is added.
insert into tidemark.image
    (stream, sha256, batch_id, split, width, height, bytes, format, brightness, contrast, sharpness, colourfulness,
     entropy, phash, band_hash)
select %(stream)s, sha256, %(batch)s, split, width, height, bytes, format, brightness, contrast, sharpness,
       colourfulness, entropy, phash,
       case when row_number() over (partition by phash order by position) = 1 and not exists (
           select 1 from tidemark.image c
           where c.stream = %(stream)s
             and substring(c.band_hash from 1 for 13) = substring(contents.phash from 1 for 13)
             and c.band_hash = contents.phash
       ) then phash end
from (
    select distinct on (sha256) * from intake_staging where status = 'accepted' order by sha256, position
) contents
order by position
on conflict (stream, sha256) do update set
    colourfulness = excluded.colourfulness, entropy = excluded.entropy, phash = excluded.phash,
    band_hash = excluded.band_hash
    where tidemark.image.phash is null
returning id, split, xmax = 0 as fresh;

-- name: label_by_folder
-- The folder's label of an image that has none yet, or whose label was given by a folder that it has left since: who
-- moves a file to another class folder corrects its label.
with claims as (
    select distinct on (i.id) i.id, i.label as previous, s.label, s.key
    from intake_staging s
    join tidemark.image i on i.stream = %(stream)s and i.sha256 = s.sha256
    left join lateral (
        select source, origin from tidemark.label_event where image_id = i.id order by id desc limit 1
    ) newest on true
    where s.status = 'accepted' and s.label is not null and i.label is distinct from s.label
      and (
          i.label is null
          or newest.source = 'folder' and not exists (
              select 1 from tidemark.object o
              where o.stream = %(stream)s and o.key = newest.origin and o.status = 'accepted' and o.image_id = i.id
          )
      )
    order by i.id, s.position
), labelled as (
    update tidemark.image i set label = claims.label from claims where i.id = claims.id
)
insert into tidemark.label_event (stream, image_id, label, previous, source, origin)
select %(stream)s, id, label, previous, 'folder', key from claims order by id;

-- name: contradicted
select s.key
from intake_staging s
join tidemark.image i on i.stream = %(stream)s and i.sha256 = s.sha256
where s.status = 'accepted' and s.label is not null and i.label <> s.label
order by s.position;

-- name: upsert_objects
-- What is tried again without success, or is what it was before, stays in its batch. An object that the store does not give is tried again by
-- every run, since nothing in a listing would show that the refusal has ended.
insert into tidemark.object
    (stream, key, etag, bytes, last_modified, status, reason_code, reason, sha256, image_id, batch_id, retry)
select %(stream)s, s.key, s.etag, s.bytes, s.last_modified, s.status, s.reason_code, s.reason, s.sha256, i.id,
       %(batch)s, coalesce(s.reason_code in ('refused', 'unreadable'), false)
from intake_staging s
left join tidemark.image i on i.stream = %(stream)s and i.sha256 = s.sha256 and s.status = 'accepted'
on conflict (stream, key) do update set
    etag = excluded.etag, bytes = excluded.bytes, last_modified = excluded.last_modified, status = excluded.status,
    reason_code = excluded.reason_code, reason = excluded.reason, sha256 = excluded.sha256,
    image_id = excluded.image_id, seen_at = now(), retry = excluded.retry,
    batch_id = case
        when tidemark.object.retry and excluded.status = 'quarantined'
            or tidemark.object.status = excluded.status and tidemark.object.sha256 = excluded.sha256
        then tidemark.object.batch_id
        else excluded.batch_id
    end;

-- name: twins
-- New images whose very hash another one has, with the group of the first that has it: its group is theirs.
select n.id, twin.id as other, twin.near_group
from tidemark.image n
join lateral (
    select i.id, i.near_group from tidemark.image i
    where i.stream = n.stream and substring(i.band_hash from 1 for 13) = substring(n.phash from 1 for 13)
      and i.band_hash = n.phash
    limit 1
) twin on true
where n.id = any(%(ids)s) and n.band_hash is null;

-- name: neighbours
-- Images whose hashes differ in at most `bits` from a new one's, the groups they are in, each pair once.
select distinct on (n.id, coalesce(i.near_group, i.id)) n.id, i.id as other, i.near_group
from tidemark.image n
join lateral (
    select id, band_hash from tidemark.image c where c.stream = n.stream
        and substring(c.band_hash from 1 for 13) = substring(n.phash from 1 for 13)
    union all
    select id, band_hash from tidemark.image c where c.stream = n.stream
        and substring(c.band_hash from 14 for 13) = substring(n.phash from 14 for 13)
    union all
    select id, band_hash from tidemark.image c where c.stream = n.stream
        and substring(c.band_hash from 27 for 13) = substring(n.phash from 27 for 13)
    union all
    select id, band_hash from tidemark.image c where c.stream = n.stream
        and substring(c.band_hash from 40 for 13) = substring(n.phash from 40 for 13)
    union all
    select id, band_hash from tidemark.image c where c.stream = n.stream
        and substring(c.band_hash from 53 for 12) = substring(n.phash from 53 for 12)
) near on near.id <> n.id and bit_count(near.band_hash # n.phash) <= %(bits)s
join tidemark.image i on i.id = near.id
where n.id = any(%(ids)s)
order by n.id, coalesce(i.near_group, i.id), i.id;

-- name: splits_of_groups
-- All images of a group are of its first one's split.
select id as root, split = 'training' as training from tidemark.image where id = any(%(roots)s);

-- name: join_group
-- One group, one split; only rows that change are touched. `absorbed`: groups that change as a whole. Returns how many
-- images from before left the holdout.
with changed as (
    update tidemark.image i set near_group = %(group)s, split = %(split)s
    from (select id, split from tidemark.image where id = any(%(members)s) or near_group = any(%(absorbed)s)) before
    where i.id = before.id and (i.near_group, i.split) is distinct from (%(group)s, %(split)s)
    returning i.id, before.split as old_split, i.split as new_split
)
select count(*) filter (where old_split = 'holdout' and new_split = 'training' and not id = any(%(ids)s)) as moved
from changed;

-- name: batch_counts
select
    (select count(*) from tidemark.image where batch_id = %(batch)s) as accepted,
    (select count(*) from tidemark.object where batch_id = %(batch)s and status = 'quarantined') as quarantined,
    (select count(*) from tidemark.object where batch_id = %(batch)s and status <> 'gone') as objects;

-- name: batch_reasons
select reason_code, count(*) as count, min(key) as example
from tidemark.object where batch_id = %(batch)s and status = 'quarantined'
group by reason_code order by count(*) desc, reason_code;

-- name: batch_manifest
select i.id, o.key, i.sha256, i.label, i.split
from tidemark.image i
join lateral (
    select key from tidemark.object where image_id = i.id order by key limit 1
) o on true
where i.batch_id = %(batch)s
order by i.id;

-- name: close_batch
update tidemark.batch set status = 'closed', closed_at = now(), accepted = %(accepted)s,
    quarantined = %(quarantined)s, manifest_key = %(manifest_key)s
where id = %(batch)s and status = 'open';

-- name: drop_empty_batch
delete from tidemark.batch b
where b.id = %(batch)s and b.status = 'open'
  and not exists (select 1 from tidemark.object where batch_id = b.id)
  and not exists (select 1 from tidemark.image where batch_id = b.id);

-- name: quarantine_reasons
select reason_code, count(*) as count
from tidemark.object where stream = %(stream)s and status = 'quarantined'
group by reason_code order by count(*) desc, reason_code;

-- name: quarantined
select key, reason_code as code, reason, bytes, batch_id as batch, seen_at as seen
from tidemark.object
where stream = %(stream)s and status = 'quarantined' and (%(code)s::text is null or reason_code = %(code)s)
order by reason_code, key
limit %(limit)s;

-- name: retry_quarantined
update tidemark.object set retry = true
where stream = %(stream)s and status = 'quarantined' and (%(code)s::text is null or reason_code = %(code)s);
