"""Texts as models read and write them: languages, code, data, emoji, tool calls. Written for these tests."""

TEXTS: dict[str, str] = {
    "English": """The harbour was quiet when the ferry came in, an hour late and half empty. Two children ran down the
ramp before anybody could stop them, and the old man who sold tickets laughed for the first time that week. "You should
have seen it in the summer," he said. "People waited until midnight, and nobody complained, because the band played on
the pier." He counted the coins, wrote a number into his notebook and closed the shutters against the wind.""",
    "German": """Die Bäckerei an der Ecke öffnet jeden Morgen um halb sechs, auch an Feiertagen. Wer früh genug kommt,
bekommt noch warme Brötchen und ein freundliches Wort dazu. Die Straßenbahnhaltestelle gegenüber wurde im vergangenen
Jahr umgebaut, weshalb die Verkehrsbetriebe Entschädigungszahlungen an mehrere Geschäfte leisten mussten. Trotzdem
möchte hier niemand wegziehen: Man kennt sich, man hilft sich, und abends sitzen alle draußen vor der Tür.""",
    "Spanish": """El tren salió de la estación con veinte minutos de retraso y nadie supo explicar por qué. En el vagón
de al lado, una mujer leía en voz alta un cuento para su hija, que ya se había dormido. Afuera llovía sobre los olivos,
y de vez en cuando aparecía un pueblo blanco entre las colinas. «¿Falta mucho?», preguntó un señor mayor. «Lo de siempre»,
contestó el revisor, y siguió caminando hacia el último coche.""",
    "Russian": """Зимой в деревне темнело рано, и уже к пяти часам в окнах загорался свет. Бабушка ставила самовар,
доставала из шкафа варенье и садилась у печки с вязанием. Мы слушали её рассказы о том, как раньше ходили на ярмарку за
сорок вёрст и возвращались только через три дня. Иногда приходил сосед, приносил рыбу и долго спорил с дедом о погоде.
Потом все замолкали, и было слышно, как за стеной скрипит снег.""",
    "Greek": """Το πρωί η αγορά γέμιζε κόσμο από νωρίς. Οι ψαράδες άπλωναν τα δίχτυα τους στην προβλήτα και φώναζαν τις
τιμές, ενώ τα παιδιά έτρεχαν ανάμεσα στα καφάσια. Ένας γέρος καθόταν στο καφενείο και διάβαζε την ίδια εφημερίδα για
δεύτερη μέρα. «Τι νέα;» τον ρώτησε ο γιος του. «Τα ίδια», απάντησε εκείνος και χαμογέλασε.""",
    "Chinese": """每年秋天，村口的那棵银杏树都会变成金黄色，远远就能看见。孩子们放学以后在树下捡叶子，夹进课本里当书签。老人说，
这棵树已经有三百多年了，经历过战争、洪水和大火，却从来没有倒下。去年有公司想把它移到城里的公园，全村人都不同意，最后县里派人
来调查，决定把它列为保护对象。从那以后，游客越来越多，路边也开了几家小茶馆。""",
    "Japanese": """駅前の商店街は、朝の七時になるとシャッターの開く音でにぎやかになります。豆腐屋のおばあさんは毎日四時に起きて、
大豆を煮るところから一日を始めるそうです。「機械を使えば楽なのにね」とお客さんに言われても、にっこり笑うだけで手を止めません。
夕方になると、学校帰りの子どもたちがコロッケを買いに並び、その匂いが通り全体に広がっていきます。""",
    "Korean": """어제는 하루 종일 비가 내려서 도서관에서 시간을 보냈습니다. 창가 자리에 앉아 오래된 여행기를 읽었는데, 백 년 전에
이 도시를 찾아온 외국인의 눈에 비친 풍경이 무척 낯설게 느껴졌습니다. 저녁이 되자 비가 그치고 하늘이 맑아졌습니다. 집에 돌아오는
길에 시장에 들러 따뜻한 만두를 사서 친구와 나누어 먹었습니다.""",
    "Arabic": """في الصباح الباكر فتح الحداد دكانه في آخر السوق القديم، وأشعل النار كما كان يفعل أبوه من قبله. جاءه رجل من
القرية المجاورة يحمل محراثا مكسورا وسأله إن كان يستطيع إصلاحه قبل المساء. قال الحداد: «اجلس واشرب الشاي، فالحديد لا يحب
العجلة». وبعد ساعتين عاد الرجل إلى حقله راضيا، وكانت الشمس قد ارتفعت فوق النخيل.""",
    "Hebrew": """בסוף הקיץ חזרנו אל הבית הישן שעל הגבעה. הדלת חרקה כמו תמיד, והחצר הייתה מלאה בעלים יבשים. סבתא הכינה תה
עם נענע וסיפרה לנו על השכנים שעזבו ועל אלה שנשארו. בלילה שמענו את הרוח בין עצי הזית, ואיש לא רצה ללכת לישון.""",
    "Hindi": """गाँव के बाहर एक पुराना कुआँ था, जिसके पास हर शाम लोग इकट्ठा होते थे। बच्चे खेलते थे, औरतें पानी भरती थीं और बुज़ुर्ग
पीपल के पेड़ के नीचे बैठकर बीते दिनों की बातें करते थे। एक दिन एक यात्री आया और उसने रात भर ठहरने की जगह माँगी। सबने मिलकर उसे
खाना खिलाया और उसकी कहानियाँ सुनते-सुनते सुबह हो गई।""",
    "Thai": """เมื่อวานนี้ฉันไปตลาดน้ำกับเพื่อนตั้งแต่เช้ามืด แม่ค้าพายเรือมาขายก๋วยเตี๋ยวกับขนมหวานหลายชนิด อากาศเย็นสบายและมีหมอก
บางๆ ลอยอยู่เหนือคลอง เรานั่งกินกันริมน้ำแล้วฟังเสียงเรือแล่นผ่านไปมา พอตอนสายคนเริ่มเยอะขึ้นเราก็เดินกลับบ้าน""",
    "Python": '''class Cache:
    """Least recently used, bounded by the sum of sizes."""

    def __init__(self, limit: int) -> None:
        self._items: OrderedDict[str, bytes] = OrderedDict()
        self._limit, self._size = limit, 0

    def get(self, key: str) -> bytes | None:
        if (value := self._items.get(key)) is not None:
            self._items.move_to_end(key)
        return value

    def put(self, key: str, value: bytes) -> None:
        self._size += len(value) - len(self._items.pop(key, b""))
        self._items[key] = value
        while self._size > self._limit:
            _, dropped = self._items.popitem(last=False)
            self._size -= len(dropped)
''',
    "C": """#include <stdio.h>
#include <string.h>

static int parse(const char *s, size_t n, unsigned long *out)
{
\tunsigned long v = 0;
\tfor (size_t i = 0; i < n; i++) {
\t\tif (s[i] < '0' || s[i] > '9')
\t\t\treturn -1;
\t\tif (v > (~0UL - 9) / 10)
\t\t\treturn -2; /* would overflow */
\t\tv = v * 10 + (unsigned long)(s[i] - '0');
\t}
\t*out = v;
\treturn n ? 0 : -1;
}
""",
    "JSON": """{"orders": [{"id": 48213, "customer": {"name": "Ana Pérez", "vip": false}, "items": [{"sku": "KB-0042-XL",
"qty": 3, "price": 19.95}, {"sku": "MN-7710", "qty": 1, "price": 249.0}], "paid_at": "2026-03-14T09:26:53Z"},
{"id": 48214, "customer": {"name": "R. Okafor", "vip": true}, "items": [], "paid_at": null}], "next": "/v1/orders?page=2"}
""",
    "Markdown": """# Release notes

- **Faster start**: the index is read lazily (`--no-index` switches it off).
- Fixed a crash in `parse_header()` on empty input ([#1423](https://example.org/issues/1423)).

| version | date | downloads |
|---|---|---|
| 2.4.0 | 2026-02-11 | 18,204 |
| 2.3.9 | 2026-01-30 | 9,977 |

```sh
$ tool --config ~/.tool.yaml run --jobs 4
```
""",
    "Numbers": """2026-01-01,1013.25,-3.7,88
2026-01-02,1009.80,-1.2,91
2026-01-03,998.41,4.05,97
2026-01-04,1002.66,3.9,79
2026-01-05,1021.07,-5.55,64
3.14159265358979 2.71828182845904 1.61803398874989 0.57721566490153
""",
    "Emoji": "Great news 🎉🎉 the family 👩‍👩‍👧 is back from 🇩🇪 and 🇯🇵! Weather: ☀️ → ⛈️, mood: 😅👍🏽 ❤️‍🔥 see you 🕖 7pm 🍕🍷",
    "Tool call": """<tool_call>
{"name": "get_weather", "arguments": {"city": "Zürich", "unit": "celsius", "days": 5, "include": ["wind", "rain"]}}
</tool_call>
<tool_call>
{"name": "create_event", "arguments": {"title": "Review: Q3 budget", "start": "2026-09-02T14:30:00+02:00"}}
</tool_call>""",
}
