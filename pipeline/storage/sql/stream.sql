-- name: summary
select
    (select count(*) from tidemark.live_image where stream = %(stream)s) as images,
    (select count(label) from tidemark.live_image where stream = %(stream)s) as labelled,
    (select count(*) from tidemark.live_image where stream = %(stream)s and split = 'holdout') as holdout,
    (select count(*) from tidemark.object where stream = %(stream)s and status <> 'gone') as keys,
    (select count(*) from tidemark.object where stream = %(stream)s and status = 'quarantined') as quarantined,
    (select count(*) - count(distinct image_id) from tidemark.object
     where stream = %(stream)s and status = 'accepted') as duplicates,
    (select count(*) from tidemark.live_image where stream = %(stream)s and near_group is not null) as near_duplicates,
    (select count(distinct near_group) from tidemark.live_image where stream = %(stream)s) as near_duplicate_groups,
    (select count(*) from tidemark.batch where stream = %(stream)s and status = 'closed') as batches,
    (select count(*) from tidemark.drift_check where stream = %(stream)s) as checks;

-- name: forget
-- Everything the catalogue knows of one stream, in the order that references allow.
delete from tidemark.prediction where stream = %(stream)s;
delete from tidemark.prediction_failure where stream = %(stream)s;
delete from tidemark.scored_shard where stream = %(stream)s;
delete from tidemark.pruned where stream = %(stream)s;
delete from tidemark.champion where stream = %(stream)s;
delete from tidemark.message where stream = %(stream)s;
delete from tidemark.promotion where stream = %(stream)s;
delete from tidemark.retraining where stream = %(stream)s;
delete from tidemark.drift_check where stream = %(stream)s;
delete from tidemark.label_event where stream = %(stream)s;
delete from tidemark.label_standing where stream = %(stream)s;
delete from tidemark.label_claim c using tidemark.label_file f where c.file_id = f.id and f.stream = %(stream)s;
delete from tidemark.label_problem p using tidemark.label_file f where p.file_id = f.id and f.stream = %(stream)s;
delete from tidemark.label_file where stream = %(stream)s;
delete from tidemark.object_history where stream = %(stream)s;
delete from tidemark.listing where stream = %(stream)s;
delete from tidemark.object where stream = %(stream)s;
delete from tidemark.image where stream = %(stream)s;
delete from tidemark.batch where stream = %(stream)s;
