-- Labels as people give them: the files that were read, what each of them says, what was refused and why.

-- A labels file of the store, or a file that was imported from a disk.
create table tidemark.label_file (
    id bigint generated always as identity primary key,
    stream text not null,
    source text not null check (source in ('file', 'import')),
    origin text not null, -- the key in the image bucket, or the imported file's name and digest
    etag text not null, -- of an imported file its SHA-256
    bytes bigint not null,
    stated_at timestamptz not null, -- when the store got this content, or when it was imported
    rows_read bigint not null default 0,
    refused bigint not null default 0, -- rows that are wrong in themselves
    unreadable text, -- why the file as a whole says nothing; what it said before stands
    read_at timestamptz not null default now(),
    unique (stream, source, origin)
);

-- Every time a file says something new of an image counts as one statement; the last one wins.
create sequence tidemark.label_statement;

-- What a file says of one key, or of one file name. Claims are kept when a file no longer makes them.
create table tidemark.label_claim (
    file_id bigint not null references tidemark.label_file,
    by_name boolean not null,
    target text not null,
    label text not null,
    author text,
    line integer not null,
    stated_at timestamptz not null, -- of the file's version that said so first
    statement bigint not null default nextval('tidemark.label_statement'),
    standing boolean not null default true, -- whether the newest version of the file still says so
    image_id bigint references tidemark.image, -- what it was applied to; null while it waits or is refused
    problem text, -- why it waits or is refused
    detail text,
    primary key (file_id, by_name, target)
);
create index label_claim_open on tidemark.label_claim (file_id) where image_id is null and standing;
create index label_claim_by_image on tidemark.label_claim (image_id, file_id) where image_id is not null;

-- Rows that are no claim, the first ones of each file.
create table tidemark.label_problem (
    file_id bigint not null references tidemark.label_file,
    line integer not null,
    code text not null,
    target text,
    label text,
    detail text
);
create index label_problem_by_file on tidemark.label_problem (file_id, line);

-- The statement that each image's label rests on: an older one that turns up later does not undo it.
create table tidemark.label_standing (
    image_id bigint primary key references tidemark.image,
    stream text not null,
    stated_at timestamptz not null,
    statement bigint not null
);
