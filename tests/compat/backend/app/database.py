"""The database of the backend."""

import os

from motor.motor_asyncio import AsyncIOMotorClient

client = None


def get_database():
    """The handle; made on the loop that uses it."""
    global client
    if client is None:
        client = AsyncIOMotorClient(os.environ["BACKEND_MONGO"])
    return client[os.environ["BACKEND_DB"]]
