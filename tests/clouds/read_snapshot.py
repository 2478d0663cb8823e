"""Reads an EBS snapshot back through the EBS direct APIs and writes it as a sparse raw disk.

    read_snapshot.py ENDPOINT REGION SNAPSHOT FILE
"""

import sys

import boto3

# EBS has no other; moto says it in KiB.
BLOCK_BYTES = 512 << 10


def main(endpoint, region, snapshot, path):
    ebs = boto3.client(
        "ebs",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id="reader",
        aws_secret_access_key="reader",
    )
    more = {}
    blocks = 0
    with open(path, "wb") as disk:
        while True:
            page = ebs.list_snapshot_blocks(SnapshotId=snapshot, **more)
            disk.truncate(page["VolumeSize"] << 30)
            for block in page["Blocks"]:
                answer = ebs.get_snapshot_block(
                    SnapshotId=snapshot,
                    BlockIndex=block["BlockIndex"],
                    BlockToken=block["BlockToken"],
                )
                disk.seek(block["BlockIndex"] * BLOCK_BYTES)
                disk.write(answer["BlockData"].read())
                blocks += 1
            if not page.get("NextToken"):
                break
            more = {"NextToken": page["NextToken"]}
    print(blocks)


main(*sys.argv[1:])
