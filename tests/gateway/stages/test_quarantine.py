"""Which job is to blame for replicas that died."""

import asyncio

from gateway.stages.quarantine import Quarantine

START, BEFORE_DECODE = 0, 30


async def test_a_job_is_to_blame_only_when_it_was_tried_alone():
    async with Quarantine().suspicion("tiny-decoder") as job:
        await job.wait_for_trial()
        assert not job.note_death(START)
        assert job.is_suspect
        await job.wait_for_trial()
        assert job.note_death(START)


async def test_a_death_at_another_step_is_a_new_suspicion():
    async with Quarantine().suspicion("tiny-decoder") as job:
        assert not job.note_death(START)
        await job.wait_for_trial()
        assert not job.note_death(BEFORE_DECODE)
        assert job.note_death(BEFORE_DECODE)


async def test_a_job_that_comes_further_is_cleared():
    async with Quarantine().suspicion("tiny-decoder") as job:
        job.note_death(START)
        await job.wait_for_trial()
        job.note_step(START)
        assert job.is_suspect
        job.note_step(START + 1)
        assert not job.is_suspect
        await job.wait_for_trial()
        assert not job.note_death(START)


async def test_suspects_of_an_application_are_tried_one_at_a_time():
    quarantine = Quarantine()
    first, second = (quarantine.suspicion("tiny-decoder") for _ in range(2))
    elsewhere = quarantine.suspicion("tiny-prior")
    async with first, elsewhere:
        for job in (first, second, elsewhere):
            job.note_death(START)
        await first.wait_for_trial()
        await elsewhere.wait_for_trial()
        async with second:
            waiting = asyncio.create_task(second.wait_for_trial())
            await asyncio.sleep(0)
            assert not waiting.done()
            first.note_step(START + 1)
            await waiting
        first.note_death(START)
        await first.wait_for_trial()  # the second has ended, and holds it no more


async def test_a_job_that_is_no_suspect_waits_for_nobody():
    quarantine = Quarantine()
    suspect, other = (quarantine.suspicion("tiny-decoder") for _ in range(2))
    async with suspect, other:
        suspect.note_death(START)
        await suspect.wait_for_trial()
        await other.wait_for_trial()
