-- name: open_batch
insert into tidemark.batch (stream, run) values (%(stream)s, %(run)s)
on conflict (stream) where status = 'open' do update set run = excluded.run
returning id;

-- name: open_batch_id
select id from tidemark.batch where stream = %(stream)s and status = 'open';

-- name: make_listing
create temporary table if not exists listing (
    key text primary key, etag text not null, bytes bigint not null, last_modified timestamptz not null
) on commit preserve rows;
truncate listing;

-- name: analyse_listing
analyze listing;

-- name: copy_listing
copy listing (key, etag, bytes, last_modified) from stdin;

-- name: new_objects
-- What the store has and the catalogue has not, or has with another content.
select l.key, l.etag, l.bytes, l.last_modified
from listing l
left join tidemark.object o on o.stream = %(stream)s and o.key = l.key
where o.key is null or o.etag <> l.etag or o.bytes <> l.bytes or o.status = 'gone'
order by l.key
limit %(limit)s;

-- name: count_new
select count(*) from listing l
left join tidemark.object o on o.stream = %(stream)s and o.key = l.key
where o.key is null or o.etag <> l.etag or o.bytes <> l.bytes or o.status = 'gone';

-- name: mark_gone
-- Keys that the catalogue knows and a full listing did not show. What they led to keeps its predictions.
update tidemark.object o set status = 'gone', seen_at = now()
where o.stream = %(stream)s and o.status <> 'gone' and not exists (select 1 from listing l where l.key = o.key);

-- name: count_listing
select count(*) from listing;

-- name: insert_image
-- Content the catalogue has already keeps its first batch, split and label.
insert into tidemark.image
    (stream, sha256, batch_id, split, label, width, height, bytes, format, brightness, contrast, sharpness)
values
    (%(stream)s, %(sha256)s, %(batch)s, %(split)s, %(label)s, %(width)s, %(height)s, %(bytes)s, %(format)s,
     %(brightness)s, %(contrast)s, %(sharpness)s)
on conflict (stream, sha256) do update set label = coalesce(tidemark.image.label, excluded.label)
returning id, batch_id, label;

-- name: upsert_object
insert into tidemark.object
    (stream, key, etag, bytes, last_modified, status, reason_code, reason, sha256, image_id, batch_id)
values
    (%(stream)s, %(key)s, %(etag)s, %(bytes)s, %(last_modified)s, %(status)s, %(reason_code)s, %(reason)s,
     %(sha256)s, %(image_id)s, %(batch)s)
on conflict (stream, key) do update set
    etag = excluded.etag, bytes = excluded.bytes, last_modified = excluded.last_modified, status = excluded.status,
    reason_code = excluded.reason_code, reason = excluded.reason, sha256 = excluded.sha256,
    image_id = excluded.image_id, batch_id = excluded.batch_id, seen_at = now();

-- name: batch_counts
select
    (select count(*) from tidemark.image where batch_id = %(batch)s) as accepted,
    (select count(*) from tidemark.object where batch_id = %(batch)s and status = 'quarantined') as quarantined;

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
