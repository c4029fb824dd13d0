-- name: summary
select
    (select count(*) from tidemark.live_image where stream = %(stream)s) as images,
    (select count(label) from tidemark.image where stream = %(stream)s) as labelled,
    (select count(*) from tidemark.image where stream = %(stream)s and split = 'holdout') as holdout,
    (select count(*) from tidemark.object where stream = %(stream)s and status <> 'gone') as keys,
    (select count(*) from tidemark.object where stream = %(stream)s and status = 'quarantined') as quarantined,
    (select count(*) from tidemark.batch where stream = %(stream)s and status = 'closed') as batches,
    (select count(*) from tidemark.drift_check where stream = %(stream)s) as checks;

-- name: forget
-- Everything the catalogue knows of one stream, in the order that references allow.
delete from tidemark.prediction where stream = %(stream)s;
delete from tidemark.prediction_failure where stream = %(stream)s;
delete from tidemark.promotion where stream = %(stream)s;
delete from tidemark.retraining where stream = %(stream)s;
delete from tidemark.drift_check where stream = %(stream)s;
delete from tidemark.object where stream = %(stream)s;
delete from tidemark.image where stream = %(stream)s;
delete from tidemark.batch where stream = %(stream)s;
