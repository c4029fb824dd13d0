-- Retrainings that wait for people: for labels, or for an approval.
alter table tidemark.retraining drop constraint retraining_status_check;
alter table tidemark.retraining add constraint retraining_status_check check (
    status in ('running', 'promoted', 'rejected', 'unchanged', 'failed', 'waiting for labels', 'awaiting approval')
);
-- Batches above this one are new to the champion that the retraining began with.
alter table tidemark.retraining add column new_since bigint;
-- The run in MLflow that the retraining did once more.
alter table tidemark.retraining add column repeats text;
