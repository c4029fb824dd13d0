-- What ingest finds out since: more measures, near duplicates, a key's history, labels with theirs.

-- Images taken in before have no measures of these kinds and no hash; null says so.
alter table tidemark.image
    add column colourfulness real,
    add column entropy real,
    add column phash bit(64),
    -- The hash again, of the first image that has it: only these are searched for neighbours.
    add column band_hash bit(64),
    -- The first image of a group of near duplicates; null for an image that is like no other.
    add column near_group bigint references tidemark.image;
create index image_by_near_group on tidemark.image (near_group) where near_group is not null;
-- Hashes that differ in at most four bits agree in at least one of five bands. The hash itself is in the index so that
-- the table is read for true neighbours only.
create index image_near_1 on tidemark.image (stream, substring(band_hash from 1 for 13)) include (id, band_hash)
    where band_hash is not null;
create index image_near_2 on tidemark.image (stream, substring(band_hash from 14 for 13)) include (id, band_hash)
    where band_hash is not null;
create index image_near_3 on tidemark.image (stream, substring(band_hash from 27 for 13)) include (id, band_hash)
    where band_hash is not null;
create index image_near_4 on tidemark.image (stream, substring(band_hash from 40 for 13)) include (id, band_hash)
    where band_hash is not null;
create index image_near_5 on tidemark.image (stream, substring(band_hash from 53 for 12)) include (id, band_hash)
    where band_hash is not null;

-- A key that is to be examined again whatever the listing says.
alter table tidemark.object add column retry boolean not null default false;
create index object_retry on tidemark.object (stream, key) where retry;
create index object_quarantined on tidemark.object (stream, reason_code, key) where status = 'quarantined';

-- What a key led to before its content changed.
create table tidemark.object_history (
    id bigint generated always as identity primary key,
    stream text not null,
    key text not null,
    etag text not null,
    bytes bigint not null,
    last_modified timestamptz not null,
    status text not null,
    reason_code text,
    reason text,
    sha256 text,
    image_id bigint references tidemark.image,
    batch_id bigint not null,
    seen_at timestamptz not null,
    replaced_at timestamptz not null default now()
);
create index object_history_by_key on tidemark.object_history (stream, key);
create index object_history_by_image on tidemark.object_history (image_id);

-- How far the store was listed: where `listing: dated` goes on.
create table tidemark.listing (
    stream text primary key,
    prefix text not null,
    listed_at timestamptz not null
);

-- Who was labelled what when. The newest row of an image is its label, which image.label repeats.
create table tidemark.label_event (
    id bigint generated always as identity primary key,
    stream text not null,
    image_id bigint not null references tidemark.image,
    label text not null,
    previous text,
    source text not null check (source in ('folder', 'file', 'import')),
    origin text not null, -- the object's key, the labels file's key, or the imported file's name and digest
    line integer,
    author text,
    labelled_at timestamptz not null default now()
);
create index label_event_by_image on tidemark.label_event (image_id, id);

-- Labels from before have come from folders.
insert into tidemark.label_event (stream, image_id, label, source, origin, labelled_at)
select i.stream, i.id, i.label, 'folder', coalesce(o.key, ''), i.created_at
from tidemark.image i
left join lateral (select key from tidemark.object where image_id = i.id order by key limit 1) o on true
where i.label is not null
order by i.id;

-- The same view with the new columns, which a view takes at its end only.
create or replace view tidemark.live_image as
select i.id, i.stream, i.sha256, i.batch_id, i.split, i.label, i.width, i.height, i.bytes, i.format, i.brightness,
       i.contrast, i.sharpness, i.created_at, o.key, i.colourfulness, i.entropy, i.phash, i.near_group
from tidemark.image i
join tidemark.batch b on b.id = i.batch_id and b.status = 'closed'
join lateral (
    select key from tidemark.object where image_id = i.id and status = 'accepted' order by key limit 1
) o on true;
