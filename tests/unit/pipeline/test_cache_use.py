"""The copy of an answer that leaves: it takes no more room than there is, for itself and for all together."""

from proxy.pipeline.cache_use import AnswerCopy, CopyRoom


def test_what_leaves_is_heard_in_order_up_to_the_bound():
    room = CopyRoom(100)
    copy = AnswerCopy(room, 5)
    for chunk in (b"abc", b"", b"de"):
        copy.take(chunk)
    assert (b"".join(copy.pieces), copy.size_bytes, copy.is_given_up, room.bytes_left) == (b"abcde", 5, False, 95)


def test_one_that_grows_too_long_is_given_up_and_its_room_is_anothers_at_once():
    room = CopyRoom(100)
    copy = AnswerCopy(room, 5)
    for chunk in (b"abc", b"def"):
        copy.take(chunk)
    assert (copy.is_given_up, copy.pieces, room.bytes_left) == (True, [], 100)
    copy.take(b"g")  # of what has been given up nothing more is kept, however short
    assert (copy.is_given_up, copy.pieces, room.bytes_left) == (True, [], 100)


def test_all_copies_of_a_process_share_one_room():
    room = CopyRoom(10)
    one, other = AnswerCopy(room, 8), AnswerCopy(room, 8)
    one.take(b"123456")
    other.take(b"12345")
    assert (one.is_given_up, other.is_given_up, room.bytes_left) == (False, True, 4)
    one.let_go()
    one.let_go()  # safe to repeat
    assert (one.pieces, room.bytes_left) == ([], 10)
    another = AnswerCopy(room, 10)
    another.take(b"1234567890")
    assert not another.is_given_up
