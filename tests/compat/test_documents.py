"""All forms of documents, read by the sample backend, and not one of their fields changed."""

from datetime import timedelta

import bson
import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from documents import begins, now
from running import Backend, wait_for
from variants import all_variants

#: What the engine may write.
OURS = {"nextRunAt", "lastRunAt", "lastStatus", "unified_scheduler"}

RAW = CodecOptions(document_class=RawBSONDocument)


def fields(db, key):
    """Each field of a document, as the bytes that the database holds."""
    found = db.get_collection("dynamic_jobs", RAW).find_one({"_id": key})
    return {name: bson.encode({name: value}) for name, value in found.items()}


def test_documents_in_every_form_are_read_as_they_are_and_none_of_their_fields_changes(place):
    # They are due a little after the backend has come up, which takes longer on a slow machine.
    for ahead in (9, 30, 100):
        soon = now() + timedelta(seconds=ahead)
        if look_at_all(place, soon):
            return
        for collection in place.db.list_collection_names():
            place.db.drop_collection(collection)
    pytest.fail("the backend took too long to come up")


def look_at_all(place, soon):
    """The test, with jobs that are due `soon`; whether the backend had come up by then."""
    db = place.db
    variants = all_variants(soon)
    documents = [variant.document(soon) for variant in variants]
    keys = db.dynamic_jobs.insert_many(documents).inserted_ids
    before = [fields(db, key) for key in keys]
    with Backend(place, workers=4) as backend:
        if now() > soon - timedelta(seconds=1):
            return False

        def all_ran():
            return all(len(begins(db, k)) >= v.runs for k, v in zip(keys, variants, strict=True))

        def all_over():
            return not db.job_executions.count_documents(under_way)

        under_way = {"job_id": {"$in": [*map(str, keys)]}, "status": {"$in": ["pending", "running"]}}
        # Which of them do not run is told below, with everything else.
        until = now() + timedelta(seconds=60)
        wait_for(lambda: (all_ran() and all_over()) or now() > until)
        # What runs once too often would do so now: retries wait for a second.
        until = now() + timedelta(seconds=2.5)
        wait_for(lambda: now() > until)
        shown = backend.get("/api/admin/scheduler/jobs?limit=1000")["jobs"]
        output = backend.output()
    shown = {document["_id"]: document for document in shown}
    wrong = []
    for variant, document, key, held in zip(variants, documents, keys, before, strict=True):
        with_it = dict(variant=variant, document=document, key=key, held=held, output=output)
        try:
            check(db, **with_it)
            if place.level == "l2":
                check_shown(variant, shown[str(key)])
        except AssertionError as error:
            wrong.append(f"{variant.name}: {error}")
    assert not wrong, "\n".join(wrong)
    # Nothing else was written into their collection.
    assert db.dynamic_jobs.count_documents({}) == len(documents)
    return True


def check(db, variant, document, key, held, output):
    """One document after it all."""
    after = fields(db, key)
    changed = {name for name in {*held, *after} - OURS if held.get(name) != after.get(name)}
    assert not changed, f"these changed: {changed}"
    assert len(begins(db, key)) == variant.runs, "how often it ran"
    found = db.dynamic_jobs.find_one({"_id": key})
    assert found.get("lastStatus") == (variant.status or document.get("lastStatus")), found.get("lastStatus")
    if variant.runs:
        assert found["nextRunAt"] == variant.next_due(document)
        assert found["lastRunAt"] is not None
        return
    ran = db.job_executions.count_documents({"job_id": str(key), "status": {"$ne": "failed"}})
    assert ran == 0
    has_due = document.get("enabled") is True and "template_type" in document and variant.status is None
    if has_due and "nextRunAt" not in document:
        assert found["nextRunAt"] > now(), "the next in the future"
        assert output.count(f"{key}") >= 1, "a warning says so"
        return
    if variant.status == "failed":
        # It is kept from engines that do not see that it can't be read; the reason is told.
        assert found["nextRunAt"] is None
        assert output.count(f"{key}") >= 1
        return
    if isinstance(document["nextRunAt"], str):
        assert found["nextRunAt"].isoformat() + "Z" == document["nextRunAt"], "the same time, as a time"
        return
    assert after.get("nextRunAt") == held.get("nextRunAt"), "its due time is its own"


def check_shown(variant, document):
    """One document as the services of level 2 show it."""
    for name, value in variant.shown.items():
        expected = value.isoformat() if hasattr(value, "isoformat") else value
        got = document.get(name)
        assert got == expected, f"{name} is shown as {got!r}, not {expected!r}"
    if variant.status == "failed" and not variant.runs:
        assert document["fault"], "why it does not run"


@pytest.mark.crosswise
def test_a_job_that_says_nothing_of_enabled_is_run_by_hand_alone(place):
    db = place.db
    document = next(v for v in all_variants(now()) if v.name == "enabled is absent").document(now())
    key = db.dynamic_jobs.insert_one(document).inserted_id
    with Backend(place, workers=2) as backend:
        run = backend.send("POST", f"/api/admin/scheduler/jobs/{key}/run")["execution"]
        assert run["status"] == "success"
        assert len(begins(db, key)) == 1
