"""Where the fuzzers begin: inputs as they should be, and of the known kinds of bad ones."""

import io
import zipfile
from typing import Dict, List

_QUAD = b'377,117,463,117,465,130,378,130,Genaxis Theatre\r\n'
_BOX = b'0,0,10,0,10,10,0,10\r\n'

ANNOTATIONS: List[bytes] = [
    b'\0\xef\xbb\xbf' + _QUAD + b'374,155,409,155,409,170,374,170,###\r\n',
    b'\1' + b'10 20 50 40 "Footpath"\n10,20,50,40,1984\n',
    b'\2' + _QUAD * 3,
    b'\0' + b'10,20,50,40,text\n10,20,50,40,100,000\n',
    b'\0' + b'nan,1e300,-inf,1_0,+5,0x1,1.5,,*\n1,2,3\n1,2,3,4,5,6,7,8,9\n',
    b'\0' + _QUAD.decode().encode('utf-16'),
    b'\0' + b'1,1,9,1,9,5,1,5,\xd6\xd0\0\n',
]
_NUMBERS = b','.join(b'%d' % number for number in range(32))
FORMATS: List[bytes] = [
    b'\0' + b'0,0,9,0,9,5,0,5,Latin,###\r\n', b'\1' + _NUMBERS + b'\n',
    b'\1' + _NUMBERS[:-12] + b',####A word\n',
    b'\2<image file="a"><box><label>a</label><segs>1,2,3,4,5,6</segs></box></image>',
    b'\3x: [[1 2\n 3]], y: [[4 5 6]], ornt: [u\'c\'], transcriptions: [u"a"]\n',
    b'\3' + b'1,2,3,4,5,6,7,8,9,10,word\n', b'\4MATLAB 5.0 MAT-file, Platform: MACI64' + bytes(91),
    b'\5' + b'0 1 615 556 372 59 -0.749840\r\n',
    b'\6{"shapes": [{"label": "a", "points": [[1, 2], [3, 4]], "shape_type": "rectangle"}]}',
    b'\7{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1, "iscrowd": 1,'
    b' "segmentation": [[0, 0, 4, 0, 4, 4]]}]}',
    b'\x08{"gt_0": [{"points": [[0, 0], [4, 0], [4, 4]], "transcription": "a"}]}',
    b'\x09a/b.jpg\t[{"transcription": "a", "points": [[0, 0], [4, 0], [4, 4]]}]\n',
]
LINES: List[bytes] = [
    b'\0' + _BOX * 3, b'\x08' + _QUAD, b'\1' + b'0,0,10,10\n', b'\2' + _BOX, b'\4' + b'0,0,9,0,9,9,'
    b'0,9,0.5\n', b'\0' + b'0.5,0,10,0,10,10,0,10\n', b'\0' + b'0,10,10,10,10,0,0,0\n',
]
PARAMETERS: List[bytes] = [
    b'{"IOU_CONSTRAINT": 0.7, "LTRB": true}', b'{"IOU": 0.5}', b'[0.5]', b'{"CRLF": 1e999}',
    b'{"DET_SAMPLE_NAME_2_ID": "res_([0-9]+).txt"}',
]


def _archive(entries: Dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, 'w', compression) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return made.getvalue()


ARCHIVES: List[bytes] = [
    _archive({'res_img_1.txt': _BOX}),
    _archive({'res_img_1.txt': _BOX}, zipfile.ZIP_STORED),
    _archive({'../res_img_1.txt': _BOX}),
    _archive({'res_img_1.txt': _BOX, 'res_img_2.txt': b''}, zipfile.ZIP_STORED),
    _archive({}),
]
